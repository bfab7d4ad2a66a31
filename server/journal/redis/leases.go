package redis

import (
	"context"
	"crypto/rand"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// leases are those of other instances, as they have been seen. A store may lose a lease and
// nothing else: it drops keys, or a part of a cluster is started again. An owner that lives
// renews its lease soon. So one without a lease is lost only when it has had the time to do
// so: since the lease was found missing, or, as renewals are numbered, since the last one.
type leases struct {
	mu   sync.Mutex
	seen map[string]lease // by the instance
}

type lease struct {
	renewal string    // the last one that was seen; empty: none
	renewed time.Time // when it was first seen
	missing time.Time // since when the lease has not been there; zero: it is there
	looked  time.Time
}

// isLost tells whether, at a time, an instance without a lease has had the time to renew it.
func (s lease) isLost(at time.Time, interval time.Duration) bool {
	inTime := timeToRenew(interval)
	return at.Sub(s.missing) > inTime || s.renewal != "" && at.Sub(s.renewed) > 2*inTime
}

// timeToRenew is how long an instance that lives is without a lease at most, if it renews
// it at an interval.
func timeToRenew(interval time.Duration) time.Duration { return interval + interval/5 }

// maxLeases is how many are known before those are dropped at which nobody looks any more.
const maxLeases = 1000

// see notes an instance's latest renewal, or that it has no lease, and returns what is
// known of it. Who has not looked for so long knows nothing from before, but who was lost:
// nobody looks any more at those, and whoever comes back later must be told.
func (l *leases) see(instance, renewal string, interval time.Duration) lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	s := l.seen[instance]
	if wasLost := !s.missing.IsZero() && s.isLost(s.looked, interval); !wasLost && now.Sub(s.looked) > timeToRenew(interval) {
		s = lease{}
	}
	switch {
	case renewal == "" && s.missing.IsZero():
		s.missing = now
	case renewal != "":
		s.missing = time.Time{}
		if renewal != s.renewal {
			s.renewal, s.renewed = renewal, now
		}
	}
	if s.looked = now; len(l.seen) >= maxLeases {
		maps.DeleteFunc(l.seen, func(_ string, s lease) bool { return now.Sub(s.looked) > timeToRenew(interval) })
	}
	l.seen[instance] = s
	return s
}

// forget notes that nobody knows whether an instance has renewed its lease.
func (l *leases) forget(instance string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.seen, instance)
}

// inDoubt returns the instances that had no lease when they were last looked at, and
// were not lost then.
func (l *leases) inDoubt(interval time.Duration) (instances []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for instance, s := range l.seen {
		if !s.missing.IsZero() && !s.isLost(s.looked, interval) {
			instances = append(instances, instance)
		}
	}
	return instances
}

// lookAt tells whether an instance has a lease, and if it has none, whether it is lost.
func (j *Journal) lookAt(ctx context.Context, instance string) (alive, lost bool, err error) {
	renewal, err := j.do(ctx, j.client.B().Get().Key(j.leaseKey(instance)).Build()).ToString()
	if err != nil && !rueidis.IsRedisNil(err) {
		j.leases.forget(instance)
		return false, false, err
	}
	interval := j.config.Lease / 4
	s := j.leases.see(instance, renewal, interval)
	if s.missing.IsZero() {
		return true, false, nil
	}
	return false, s.isLost(s.looked, interval), nil
}

// isLost tells whether a completion that has not ended has no owner any more. It returns
// errGone for as long as nobody can know: leases are over when the store comes back, and
// gone when it is started again.
func (j *Journal) isLost(ctx context.Context, at record) (bool, error) {
	switch at.owner {
	case "":
		return true, nil
	case j.instance:
		return j.writer(at.ID) == nil, nil
	}
	alive, lost, err := j.lookAt(ctx, at.owner)
	if err == nil && !alive && (!lost || j.outage.isJustOver(j.config.Lease) || j.isUnsettled()) {
		err = errGone
	}
	return err == nil && !alive, err
}

// checkOwners has the followers of a completion look into the store whose owner gives no
// sign of life, and all of them if asked to: what was published may have been lost.
func (j *Journal) checkOwners(all bool) {
	unknown := j.outage.isGone() || j.isUnsettled()
	if all || unknown {
		j.rereadAll()
	}
	if unknown {
		return // nobody is lost now, and each look may take long
	}
	for owner, topics := range j.owners() {
		j.checkOwner(owner, topics)
	}
}

func (j *Journal) checkOwner(owner string, topics []*topic) {
	if owner != "" {
		if alive, _, err := j.lookAt(j.ctx, owner); err != nil || alive {
			return
		}
	}
	for _, t := range topics {
		t.mu.Lock()
		t.wake(true)
		t.mu.Unlock()
	}
}

// checkDoubtful looks again, and more often, for owners that seem to be lost.
func (j *Journal) checkDoubtful() {
	doubtful := j.leases.inDoubt(j.config.Lease / 4)
	if len(doubtful) == 0 || j.outage.isGone() || j.isUnsettled() {
		return
	}
	owners := j.owners()
	for _, owner := range doubtful {
		j.checkOwner(owner, owners[owner])
	}
}

// owners returns the completions that are followed here, by their owners.
func (j *Journal) owners() map[string][]*topic {
	owners := map[string][]*topic{}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, t := range j.topics {
		t.mu.Lock()
		owners[t.owner] = append(owners[t.owner], t)
		t.mu.Unlock()
	}
	return owners
}

// keepLease renews the lease until the journal is closed. Nothing else is done in between,
// which might take longer than the lease. It looks more often for a store that fails.
func (j *Journal) keepLease() {
	ticker := time.NewTicker(j.config.Lease / 20)
	defer ticker.Stop()
	for n := 1; ; n++ {
		select {
		case <-ticker.C:
			if failing := j.outage.isFailing(); n%5 == 0 || failing {
				if err := j.renew(); isOutage(err) && failing {
					j.probe()
				}
			}
		case <-j.ctx.Done():
			return
		}
	}
}

// renewal is of this instance's own lease.
type renewal struct {
	mu        sync.Mutex // guards all below, and is held for the command
	last      int64      // the number of the last one
	confirmed int64      // the last one that the store has confirmed
	failed    bool       // it has not confirmed the last one
}

// renew renews the lease. It tries when the store is gone, too: so it is noticed when that
// comes back.
func (j *Journal) renew() error {
	j.renewal.mu.Lock()
	defer j.renewal.mu.Unlock()
	return j.renewLocked()
}

func (j *Journal) renewLocked() error {
	began, r := time.Now(), &j.renewal
	r.last++
	ctx, stop := context.WithTimeout(j.ctx, j.config.Patience/2)
	defer stop()
	before, err := j.client.Do(ctx, j.client.B().Set().Key(j.leaseKey(j.instance)).Value(strconv.FormatInt(r.last, 10)).
		Get().PxMilliseconds(j.config.Lease.Milliseconds()).Build()).AsInt64()
	if rueidis.IsRedisNil(err) {
		before, err = 0, nil
	}
	j.observe(j.ctx, began, err, true)
	if r.failed = err != nil; err == nil {
		j.outage.renew(began, before < r.confirmed)
		r.confirmed = r.last
	}
	return err
}

// probe looks whether it is only a part of a cluster that has failed, which has the lease:
// whatever the others have goes on.
func (j *Journal) probe() {
	if j.client.Mode() != rueidis.ClientModeCluster {
		return
	}
	began := time.Now()
	ctx, stop := context.WithTimeout(j.ctx, j.config.Patience/2)
	defer stop()
	var writes []rueidis.Completed
	for range 8 { // to as many slots at random
		writes = append(writes, j.client.B().Set().Key(j.config.Prefix+":probe:"+rand.Text()).Value("").PxMilliseconds(1000).Build().Pin())
	}
	for _, result := range j.client.DoMulti(ctx, writes...) {
		if result.Error() == nil {
			j.observe(j.ctx, began, nil, true)
			return
		}
	}
}

// keepsKeys tells whether the store still had this process's lease when that was last
// renewed, as far as connections have not broken since: if not, it may have lost keys as
// well, and their owners may not have claimed them again. The shard of a cluster that has
// the lease may have failed; then nobody waits for it, and the others' keys are good. Of
// those, the lease says nothing: one to which a connection broke may have been emptied.
func (j *Journal) keepsKeys() bool {
	j.renewal.mu.Lock()
	defer j.renewal.mu.Unlock()
	isCluster := j.client.Mode() == rueidis.ClientModeCluster
	if j.outage.isShakenSinceRenewal() && !(isCluster && j.renewal.failed) && j.renewLocked() != nil && !isCluster {
		return false
	}
	return !j.lacksKeys()
}

// lacksKeys tells whether the store may have lost keys that their owners are about to claim
// again.
func (j *Journal) lacksKeys() bool {
	unsettled := j.config.Lease / 2
	isCluster := j.client.Mode() == rueidis.ClientModeCluster
	return j.outage.lacksKeys(unsettled) || isCluster && j.outage.hasBrokenOff(time.Now().Add(-unsettled))
}
