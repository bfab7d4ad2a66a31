package redis

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// outage is what is known of a store that does not answer. After Journal.Config.Patience
// it counts as gone: nobody waits for it any more, and owners show their readers what they
// have in memory, and write it when the store is back.
type outage struct {
	mu      sync.Mutex // guards all below
	since   time.Time  // of the first failure in a row; zero: it answers
	gone    bool
	refuses bool                 // it answers, and takes nothing: only a write shows that it does again
	back    time.Time            // when it last came back
	shaken  time.Time            // when it last failed, or came back, or a connection broke
	unsure  bool                 // since then, nobody has looked whether it has lost anything
	renewed time.Time            // when the last renewal of the lease began that it has taken
	broke   time.Time            // when a connection last broke
	emptied time.Time            // when it was last found to have lost the lease
	changed func(available bool) // nil: nobody wants to know
}

var errGone = errors.New("the journal's store is gone")

func (o *outage) isGone() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.gone
}

// shake notes that the store may have lost what it had acknowledged: it may have been
// started again, or another may have taken its place.
func (o *outage) shake() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.shaken, o.unsure = time.Now(), true
}

// breakOff notes that a connection has broken.
func (o *outage) breakOff() {
	o.shake()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.broke = o.shaken
}

// hasBrokenOff tells whether one has since a time.
func (o *outage) hasBrokenOff(since time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.broke.After(since)
}

// isShaken tells whether that was within so long.
func (o *outage) isShaken(within time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.shaken.IsZero() && time.Since(o.shaken) < within
}

// takeUnsure tells whether to look what the store has lost. It is the caller's to do, then.
func (o *outage) takeUnsure() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.gone {
		return false
	}
	unsure := o.unsure
	o.unsure = false
	return unsure
}

// isFailing tells whether the store may not have the lease.
func (o *outage) isFailing() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.gone || o.unsure || !o.since.IsZero()
}

// isJustOver tells whether the store was gone within so long.
func (o *outage) isJustOver(within time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.back.IsZero() && time.Since(o.back) < within
}

// renew notes when a renewal began that the store has taken, and whether it had lost the one
// before.
func (o *outage) renew(began time.Time, lost bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.renewed = began; lost {
		o.emptied = time.Now()
		o.shaken, o.unsure = o.emptied, true
	}
}

// isShakenSinceRenewal tells whether the store may have lost something since then.
func (o *outage) isShakenSinceRenewal() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.shaken.After(o.renewed)
}

// lacksKeys tells whether, within so long, the store has come back or has lost something.
func (o *outage) lacksKeys(within time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return time.Since(o.back) < within || time.Since(o.emptied) < within
}

func (o *outage) notify(changed func(available bool)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.changed = changed
	changed(!o.gone)
}

// observe notes how a command went that began at a time, and whether it surely would have
// been refused by a store that takes nothing: a script may have written nothing. It tells
// whether the store has just gone, or has just come back.
func (o *outage) observe(began time.Time, err error, writes bool, patience time.Duration) (went, back bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !isOutage(err) {
		if o.refuses && !writes {
			return false, false
		}
		if back = o.gone; back {
			o.back = time.Now()
			o.shaken = o.back
		}
		o.since, o.refuses = time.Time{}, false
		o.set(false)
		return false, back
	}
	o.shaken, o.unsure = time.Now(), true
	if _, said := rueidis.IsRedisErr(err); said {
		o.refuses = true
	}
	if o.since.IsZero() {
		// A command may seem to have taken longer than it could: the process stood still.
		o.since = time.Now().Add(-min(time.Since(began), patience/2))
	}
	went = !o.gone && time.Since(o.since) >= patience
	o.set(o.gone || went)
	return went, false
}

// set notes whether the store is gone. The caller holds the lock.
func (o *outage) set(gone bool) {
	if gone != o.gone && o.changed != nil {
		o.changed(!gone)
	}
	o.gone = gone
}

// unavailable are the errors of a store that answers, and can do nothing for now.
var unavailable = []string{"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS", "OOM", "MISCONF", "TRYAGAIN", "UNAVAILABLE", "BUSY", "NOAUTH", "WRONGPASS", "NOPERM"}

// isOutage tells whether a command failed because the store cannot be had.
func isOutage(err error) bool {
	if err == nil || rueidis.IsRedisNil(err) {
		return false
	}
	if said, ok := rueidis.IsRedisErr(err); ok {
		code, _, _ := strings.Cut(said.Error(), " ")
		return slices.Contains(unavailable, code) || strings.HasPrefix(said.Error(), "ERR max number of clients")
	}
	return true
}

// observe notes how commands went, unless their caller gave up.
func (j *Journal) observe(ctx context.Context, began time.Time, err error, writes bool) {
	if ctx.Err() != nil {
		return
	}
	went, back := j.outage.observe(began, err, writes, j.config.Patience)
	switch {
	case went:
		j.config.Log.Error("the journal's store is gone: what runs goes on in memory", "cause", err)
	case back:
		j.config.Log.Info("the journal's store is back")
		j.later(func(context.Context) { j.resync(false) })
	}
}

// do runs a command, for no longer than half of what the store may not answer.
func (j *Journal) do(ctx context.Context, cmd rueidis.Completed) rueidis.RedisResult {
	return j.doMulti(ctx, cmd)[0]
}

// doMulti runs commands, in one go.
func (j *Journal) doMulti(ctx context.Context, cmds ...rueidis.Completed) (results []rueidis.RedisResult) {
	return j.doMultiAt(ctx, j.client, cmds...)
}

// doMultiAt does what doMulti does, at one node.
func (j *Journal) doMultiAt(ctx context.Context, node rueidis.Client, cmds ...rueidis.Completed) (results []rueidis.RedisResult) {
	for i := range cmds {
		cmds[i] = cmds[i].Pin() // a connection that breaks may still read what is tried again
	}
	j.try(ctx, func(ctx context.Context) error {
		results = node.DoMulti(ctx, cmds...)
		return worst(results)
	}, func(err error) {
		results = slices.Repeat([]rueidis.RedisResult{rueidis.NewErrorResult(err)}, len(cmds))
	})
	return results
}

// worst returns, of what has come of commands, what says the most of the store: that a
// connection broke, or that it cannot be had, or anything else but success.
func worst(results []rueidis.RedisResult) (worst error) {
	for _, result := range results {
		switch err := result.Error(); {
		case isBroken(err):
			return err
		case isOutage(err) && !isOutage(worst), worst == nil:
			worst = err
		}
	}
	return worst
}

// exec runs a script.
func (j *Journal) exec(ctx context.Context, script *rueidis.Lua, keys []string, args ...string) (result rueidis.RedisResult) {
	j.try(ctx, func(ctx context.Context) error {
		result = script.Exec(ctx, j.client, keys, args)
		return result.Error()
	}, func(err error) { result = rueidis.NewErrorResult(err) })
	return result
}

// try runs commands unless the store is gone; then it refuses. A few times it tries again
// when a connection breaks, and nobody knows what the store has got: so all that the
// journal asks for can be done twice.
func (j *Journal) try(ctx context.Context, run func(context.Context) error, refuse func(error)) {
	if j.outage.isGone() {
		refuse(errGone)
		return
	}
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, j.config.Patience/2)
	defer cancel()
	err := run(limited)
	for wait := j.config.Patience / 200; isBroken(err) && wait < j.config.Patience/20; wait *= 2 {
		select {
		case <-time.After(wait):
			j.outage.shake()
			err = run(limited)
			continue
		case <-limited.Done():
		}
		break
	}
	j.observe(ctx, began, err, false)
}

// isBroken tells whether a command failed with its connection.
func isBroken(err error) bool {
	if err == nil || rueidis.IsRedisNil(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, rueidis.ErrClosing) {
		return false
	}
	_, answered := rueidis.IsRedisErr(err)
	return !answered
}

// warnOfEviction logs that the store may drop what is kept in it. All keys expire, so every
// policy but one drops them. Many a store does not say: then nothing is known.
func (j *Journal) warnOfEviction() {
	ctx, cancel := context.WithTimeout(j.ctx, j.config.Patience/2)
	defer cancel()
	said, err := j.client.Do(ctx, j.client.B().ConfigGet().Parameter("maxmemory-policy", "maxmemory").Build()).AsStrMap()
	policy := said["maxmemory-policy"]
	if err != nil || policy == "" || policy == "noeviction" || said["maxmemory"] == "0" {
		return
	}
	j.config.Log.Warn("the journal's store drops completions when it is full: set its maxmemory-policy to noeviction", "policy", policy)
}
