package journal

import (
	"context"
	"sync"
	"time"
)

// What the journal counts for a completion beside its pages and names: its log,
// its places in maps and queues, and room for its last entry.
const (
	logCost  = 1 << 10
	goneCost = 480 // of one whose entries are gone
)

// MemoryConfig bounds a Memory. A zero field takes its default.
type MemoryConfig struct {
	Retention     time.Duration // how long an ended completion stays readable; default 10 min
	Bytes         int64         // the most memory for all completions; default 256 MiB
	MaxCompletion int64         // the most memory for the entries of one; default 16 MiB
}

// Memory is a Journal in this process's memory.
//
// An ended completion stays for the retention or until its memory is needed, the
// one that ended first going first; a running one always stays, and does not fail
// because others fill the memory: room.go says who is let in. What has gone is
// remembered for another retention, its idempotency key too, so that whoever
// comes late learns that he is late and pays nothing twice.
//
// Close it after use; nothing may be appended afterwards.
type Memory struct {
	config MemoryConfig

	mu    sync.Mutex // guards all below, and is taken before any log's
	logs  map[string]*log
	keys  map[claim]*log
	room  room
	bytes int64 // all that is held, of whatever runs and has ended
	ended queue // logs that have ended, in that order, and so in order of expiry
	gone  queue // logs whose pages are gone, likewise
	timer *time.Timer
	due   time.Time // what the timer is set for
}

// claim is an idempotency key and whose it is.
type claim struct{ principal, key string }

// NewMemory returns an empty journal.
func NewMemory(config MemoryConfig) *Memory {
	if config.Retention == 0 {
		config.Retention = 10 * time.Minute
	}
	if config.Bytes == 0 {
		config.Bytes = 256 << 20
	}
	if config.MaxCompletion == 0 {
		config.MaxCompletion = 16 << 20
	}
	m := &Memory{config: config, logs: map[string]*log{}, keys: map[claim]*log{}, room: newRoom(config.Bytes, config.MaxCompletion)}
	m.timer = time.AfterFunc(time.Hour, m.expire)
	m.timer.Stop()
	return m
}

// Close stops the journal's timer.
func (m *Memory) Close() { m.timer.Stop() }

// Create implements Journal.
func (m *Memory) Create(_ context.Context, c Completion) (Writer, Completion, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expireLocked()
	if holder := m.keys[claim{c.Principal, c.Key}]; c.Key != "" && holder != nil {
		return nil, holder.Completion, nil
	}
	l := &log{memory: m, Completion: c}
	if !m.room.admit(l) {
		return nil, Completion{}, ErrFull
	}
	m.makeRoom(logCost + l.names())
	m.logs[c.ID] = l
	if c.Key != "" {
		m.keys[claim{c.Principal, c.Key}] = l
	}
	return l, c, nil
}

// Get implements Journal.
func (m *Memory) Get(_ context.Context, id string) (Info, error) {
	return known(m.find(id))
}

// Find implements Journal.
func (m *Memory) Find(_ context.Context, principal, key string) (Info, error) {
	m.mu.Lock()
	m.expireLocked()
	l := m.keys[claim{principal, key}] // never with an empty key: Create sets none
	m.mu.Unlock()
	return known(l)
}

// known returns what is known of a log's completion; the log may be nil.
func known(l *log) (Info, error) {
	if l == nil {
		return Info{}, ErrNotFound
	}
	info, gone := l.info()
	if gone {
		return info, ErrExpired
	}
	return info, nil
}

// Read implements Journal.
func (m *Memory) Read(_ context.Context, id string, after int32) (Reader, error) {
	l := m.find(id)
	if l == nil {
		return nil, ErrNotFound
	}
	r, err := l.read(after)
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Bytes returns how much memory the journal counts, which is at most its bound.
func (m *Memory) Bytes() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bytes
}

// Len returns how many completions the journal knows, those included whose
// entries are gone.
func (m *Memory) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.logs)
}

func (m *Memory) find(id string) *log {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expireLocked()
	return m.logs[id]
}

// makeRoom counts n more bytes, for which room has place, and lets go of as much that
// has ended as is in their way.
func (m *Memory) makeRoom(n int64) {
	for m.bytes+n > m.config.Bytes && m.ended.len() > 0 {
		m.dropFirst()
	}
	for m.bytes+n > m.config.Bytes && m.gone.len() > 0 {
		m.forgetFirst()
	}
	m.bytes += n
}

// growLog counts a new page of a running log, of a size, or when there is no room for
// that, of the least that does. It returns its size.
func (m *Memory) growLog(l *log, size, least int) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if granted := l.place.granted; granted > 0 {
		l.place.granted = 0
		return granted, nil
	}
	var err error
	for _, n := range []int{size, least} {
		switch {
		case l.bytes+int64(n) > m.config.MaxCompletion:
			err = ErrTooLarge
		case !m.room.grow(l, int64(n)):
			err = ErrFull
		default:
			m.makeRoom(int64(n))
			return n, nil
		}
	}
	return 0, err
}

// end keeps an ended log for the retention.
func (m *Memory) end(l *log) {
	slack := int64(l.trim())
	m.mu.Lock()
	defer m.mu.Unlock()
	decided := m.room.dismiss(l)
	slack += int64(l.place.granted) // it ended before it used what it had waited for
	m.bytes -= slack
	l.bytes -= slack
	l.place = nil
	l.expires = time.Now().Add(m.config.Retention)
	m.ended.push(l)
	m.goOn(decided) // which may be in need of what has just ended
	m.expireLocked()
}

// dropFirst drops the pages of the log that ended first.
func (m *Memory) dropFirst() {
	l := m.ended.pop()
	l.drop()
	m.bytes -= l.bytes + logCost - goneCost
	l.bytes = 0
	l.expires = time.Now().Add(m.config.Retention)
	m.gone.push(l)
}

// forgetFirst forgets the log whose pages went first.
func (m *Memory) forgetFirst() {
	l := m.gone.pop()
	m.bytes -= goneCost + l.names()
	delete(m.logs, l.ID)
	if c := (claim{l.Principal, l.Key}); m.keys[c] == l {
		delete(m.keys, c)
	}
}

func (m *Memory) expire() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expireLocked()
}

// expireLocked drops and forgets what is due and sets the timer for what is due
// next. The timer bounds how long memory is held; that nothing is read after its
// time does not depend on it, since every look-up comes here first.
func (m *Memory) expireLocked() {
	now := time.Now()
	for m.ended.len() > 0 && !m.ended.first().expires.After(now) {
		m.dropFirst()
	}
	for m.gone.len() > 0 && !m.gone.first().expires.After(now) {
		m.forgetFirst()
	}
	var next time.Time
	for _, q := range []*queue{&m.ended, &m.gone} {
		if q.len() > 0 && (next.IsZero() || q.first().expires.Before(next)) {
			next = q.first().expires
		}
	}
	if !next.IsZero() && !next.Equal(m.due) {
		m.due = next
		m.timer.Reset(next.Sub(now))
	}
}

// Append implements Writer.
func (l *log) Append(_ context.Context, e Entry) ([]byte, error) {
	// Only the writer changes last and ended, so it may read them unlocked.
	if l.ended || e.Sequence != l.last+1 {
		return nil, ErrFenced
	}
	page, least := l.grow(e)
	if page > 0 && e.Kind == Event { // the last entry has its room in logCost
		var err error
		if page, err = l.memory.growLog(l, page, least); err != nil {
			return nil, err
		}
	}
	data := l.append(e, page)
	if e.Kind != Event {
		l.memory.end(l)
	}
	return data, nil
}

// queue is a first-in, first-out queue of logs.
type queue struct {
	logs []*log
}

func (q *queue) len() int    { return len(q.logs) }
func (q *queue) first() *log { return q.logs[0] }
func (q *queue) push(l *log) { q.logs = append(q.logs, l) }

func (q *queue) pop() *log {
	l := q.logs[0]
	q.logs[0] = nil
	q.logs = q.logs[1:]
	return l
}
