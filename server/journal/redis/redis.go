// Package redis is a journal.Journal on Redis 7.0 or Valkey, which several processes share.
//
// Of a completion the store has a hash, which says whose it is and how far it has come,
// and a stream of its batches, both in one slot of a cluster. The process that generates a
// completion, its owner, has it in its memory as well, in a memory.Journal: from there its
// own readers read, and what the store has lost is written again. Nobody is shown an entry
// before the store has it, unless the store is gone (outage.go).
//
// One script appends: it compares the owner's fence and the sequence, adds the batch and
// publishes it (scripts.go). Readers in other processes subscribe, then read the stream,
// then go on with what is published, and read again where that has a gap (topic.go). Each
// process has one connection for all that it subscribes to (subscription.go), and one
// lease for all that it owns (instance.go): when that is over, whoever reads finds the
// owner lost, raises the fence and writes the end.
//
// All keys expire by themselves, and so does what a process leaves behind that dies.
package redis

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/sluice-sse/sluice/server/journal"
	"github.com/sluice-sse/sluice/server/journal/memory"
)

// Config says where the store is, and bounds what is kept. A zero field takes its default.
type Config struct {
	URL       string        // redis://, rediss:// or unix://, as rueidis.ParseURL reads it; required
	Password  string        // instead of the URL's; default: that
	Sentinel  string        // the sentinels' own password, instead of the URL's sentinel_password; default: that
	Prefix    string        // of all keys and channels; default "sluice"
	Retention time.Duration // how long an ended completion stays readable; default 10 min
	Life      time.Duration // the longest that a completion runs; default 1 h
	Lease     time.Duration // after how long without a sign of life an owner is lost; default 10 s
	Patience  time.Duration // how long a store may not answer before it counts as gone; default 2 s
	Memory    memory.Config // of what this process owns; its Retention is this one's
	Log       *slog.Logger  // default: none
}

// Journal implements journal.Journal. Close it after use; nothing may be appended
// afterwards.
type Journal struct {
	config   Config
	client   rueidis.Client
	local    *memory.Journal // of what this process owns, and has owned
	instance string          // the name of this process, of which each has another
	outage   outage

	ctx   context.Context // of all goroutines of the journal
	stop  context.CancelFunc
	ended sync.WaitGroup // of them

	closing sync.Mutex // guards closed: nothing is added to ended when Close waits for that
	closed  bool

	subscription subscription
	publisher    publisher
	reads        reads
	leases       leases
	renewal      renewal
	news         atomic.Int64  // that were told to others
	disowning    chan struct{} // there is something in disowned

	mu      sync.Mutex // guards all below, and is taken before any topic's
	writers map[string]*writer
	topics  map[string]*topic
	cancels map[string]cancel // of completions of others

	withdrawn map[string]withdrawal // by the id
	disowned  map[string]struct{}   // completions that others take for this process's
}

// New returns a journal whose store answers.
func New(config Config) (*Journal, error) {
	config.Prefix = cmp.Or(config.Prefix, "sluice")
	config.Retention = cmp.Or(config.Retention, 10*time.Minute)
	config.Life = cmp.Or(config.Life, time.Hour)
	config.Lease = cmp.Or(config.Lease, 10*time.Second)
	config.Patience = cmp.Or(config.Patience, 2*time.Second)
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	config.Memory.Retention = config.Retention
	j := &Journal{
		config:   config,
		local:    memory.New(config.Memory),
		instance: rand.Text(),
		writers:  map[string]*writer{},
		topics:   map[string]*topic{},
		cancels:  map[string]cancel{},

		withdrawn:    map[string]withdrawal{},
		disowned:     map[string]struct{}{},
		disowning:    make(chan struct{}, 1),
		subscription: newSubscription(),
		reads:        reads{max: maxReads, long: config.Patience / 20},
		leases:       leases{seen: map[string]lease{}},
	}
	var err error
	if j.client, err = newClient(config, j.outage.breakOff); err != nil {
		j.local.Close()
		return nil, err
	}
	j.ctx, j.stop = context.WithCancel(context.Background())
	if err := j.renew(); err != nil {
		j.Close()
		return nil, fmt.Errorf("write to the journal's store: %w", err)
	}
	j.ended.Go(j.keepLease)
	j.ended.Go(j.keepAlive)
	j.ended.Go(j.keepWritten)
	j.ended.Go(j.keepDisowning)
	j.ended.Go(j.keepSubscribed)
	if err := j.check(); err != nil {
		j.Close()
		return nil, err
	}
	j.warnOfEviction()
	return j, nil
}

// check does once what the journal does later: a user of the store who may not, or a proxy
// that cannot, is better known of when the process starts.
func (j *Journal) check() error {
	ctx, cancel := context.WithTimeout(j.ctx, 2*j.config.Patience)
	defer cancel()
	w := &writer{Completion: journal.Completion{ID: "check " + j.instance, Key: j.instance}, fence: "1"}
	_, err := j.claim(ctx, w)
	if err == nil {
		_, _, err = j.appendBatch(ctx, w, []journal.Entry{{Sequence: 1, Kind: journal.Failed}})
	}
	if err == nil {
		_, _, err = j.read(ctx, w.ID, 0, 1)
	}
	if err = cmp.Or(err, j.takeBack(w.ID, "", w.Key)); err != nil {
		return fmt.Errorf("try the journal's store: %w", err)
	}
	j.do(ctx, j.client.B().Del().Key(j.streamKey(w.ID)).Build())
	s := &j.subscription
	if err := s.add(ctx, j.leaseKey(j.instance)); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		return fmt.Errorf("subscribe at the journal's store: %w", cmp.Or(s.failed, err))
	}
	return nil
}

// Close gives up the lease and what else the journal holds.
func (j *Journal) Close() {
	j.closing.Lock()
	j.closed = true
	j.closing.Unlock()
	j.stop()
	j.ended.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), j.config.Patience)
	defer cancel()
	j.client.Do(ctx, j.client.B().Del().Key(j.leaseKey(j.instance)).Build())
	j.client.Close()
	j.local.Close()
}

// Bytes returns how much memory the journal counts of this process.
func (j *Journal) Bytes() int64 { return j.local.Bytes() }

// Available tells whether the store can be had.
func (j *Journal) Available() bool { return !j.outage.isGone() }

// Notify has a function be called with what Available returns, now and whenever that
// changes. It is called once.
func (j *Journal) Notify(changed func(available bool)) { j.outage.notify(changed) }

// Create implements journal.Journal.
func (j *Journal) Create(ctx context.Context, c journal.Completion, o journal.Owner) (journal.Writer, journal.Completion, error) {
	if info, err := j.local.Find(ctx, c.Principal, c.Key); c.Key != "" && !errors.Is(err, journal.ErrNotFound) {
		return nil, info.Completion, nil
	}
	if c.Key != "" && j.lacksKeys() {
		return nil, journal.Completion{}, errGone // the store may have lost the key, which an owner is about to claim again
	}
	w := &writer{journal: j, Completion: c, owner: o, fence: "1", others: map[string]presence{}}
	j.mu.Lock()
	j.writers[c.ID] = w // before anybody can find it, and take it for lost
	j.mu.Unlock()
	holder, err := j.claim(ctx, w)
	switch {
	case err != nil && (c.Key != "" || !j.outage.isGone()):
		j.forget(w)
		j.withdraw(w, err) // the answer may be what was lost
		return nil, journal.Completion{}, err
	case err != nil:
	case c.Key != "" && holder.ID == c.ID && !j.keepsKeys():
		j.forget(w)
		j.withdraw(w, nil)
		return nil, journal.Completion{}, errGone
	case holder.ID != c.ID:
		j.forget(w)
		j.withdraw(w, nil)
		return nil, holder, nil
	}
	w.mu.Lock() // it can be found already, to be written again
	defer w.mu.Unlock()
	w.behind = err != nil
	if w.held, holder, err = j.local.CreateHeld(ctx, c, o); w.held == nil || err != nil {
		j.forget(w)
		j.withdraw(w, nil)
		return nil, holder, err
	}
	return w, c, nil
}

// forget no longer counts a completion among those that this process writes.
func (j *Journal) forget(w *writer) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.writers, w.ID)
}

// Get implements journal.Journal.
func (j *Journal) Get(ctx context.Context, id string) (journal.Info, error) {
	if info, ok := j.owned(ctx, id); ok {
		return info, nil
	}
	record, err := j.settled(j.record(ctx, id))
	return record.Info, err
}

// owned returns what is known here of a completion that this process owns, or has owned to
// the end.
func (j *Journal) owned(ctx context.Context, id string) (journal.Info, bool) {
	info, err := j.local.Get(ctx, id)
	return info, err == nil && !j.local.Lost(id)
}

// Find implements journal.Journal.
func (j *Journal) Find(ctx context.Context, principal, key string) (journal.Info, error) {
	if key == "" {
		return journal.Info{}, journal.ErrNotFound
	}
	if info, err := j.local.Find(ctx, principal, key); err == nil && !j.local.Lost(info.ID) {
		return info, nil
	}
	id, err := j.holder(ctx, principal, key)
	if _, err = j.settled(record{}, err); err != nil {
		return journal.Info{}, err
	}
	return j.Get(ctx, id)
}

// Read implements journal.Journal.
func (j *Journal) Read(ctx context.Context, id string, after int32) (journal.Reader, error) {
	return j.open(ctx, id, after, false)
}

// Follow implements journal.Journal.
func (j *Journal) Follow(ctx context.Context, id string, after int32) (journal.Reader, error) {
	return j.open(ctx, id, after, true)
}

func (j *Journal) open(ctx context.Context, id string, after int32, follow bool) (journal.Reader, error) {
	if _, ok := j.owned(ctx, id); ok {
		read := j.local.Read
		if follow {
			read = j.local.Follow
		}
		r, err := read(ctx, id, after)
		if err == nil {
			return &localReader{Reader: r, journal: j, id: id, last: after, follow: follow}, nil
		}
		// Its entries had to go here, or the store has published one already that is
		// about to be shown.
		if !errors.Is(err, journal.ErrExpired) && !errors.Is(err, journal.ErrAhead) {
			return nil, err
		}
	}
	return j.openStored(ctx, id, after, follow)
}

// Cancel implements journal.Journal.
func (j *Journal) Cancel(ctx context.Context, id string) error {
	if w := j.writer(id); w != nil {
		w.owner.Cancel()
		return nil
	}
	record, err := j.settled(j.record(ctx, id))
	switch {
	case errors.Is(err, journal.ErrNotFound):
		return err
	case record.Ended, errors.Is(err, journal.ErrExpired):
		return nil
	case err != nil:
		return err
	}
	j.mu.Lock()
	j.cancels[id] = cancel{owner: record.owner, since: time.Now()}
	j.mu.Unlock()
	j.tell(ctx, record.owner, cancelMessage(id))
	return nil
}

// writer returns the writer of a completion that this process writes, or nil.
func (j *Journal) writer(id string) *writer {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.writers[id]
}

// EndLost implements journal.Journal.
func (j *Journal) EndLost(ctx context.Context, id string, data []byte) error {
	if j.writer(id) != nil {
		return journal.ErrFenced
	}
	record, err := j.settled(j.record(ctx, id))
	switch {
	case err != nil:
		return err
	case record.Ended:
		return journal.ErrFenced
	}
	if lost, err := j.isLost(ctx, record); !lost {
		return cmp.Or(err, journal.ErrFenced)
	}
	return j.endLost(ctx, record, data)
}
