package redis

import (
	"bytes"
	"context"
	"strconv"
	"sync"

	"github.com/sluice-sse/sluice/server/journal"
)

// maxTail is how much of what has been published lately a topic keeps for its followers,
// in entries. Who is further behind reads the store.
const maxTail = 256

// maxTailBytes bounds them as well: there may be thousands of topics, and large events.
const maxTailBytes = 256 << 10

// topic is a completion that another process owns, as it is followed here.
type topic struct {
	id    string
	users int // guarded by Journal.mu: followers, and those that are about to be

	mu        sync.Mutex // guards all below
	followers map[*storedReader]struct{}
	tail      []journal.Entry // the latest that were published, without a gap
	bytes     int             // of them
	last      int32           // the last entry that is known of
	owner     string
}

// join returns the topic of a completion, which is subscribed to. It is to be left.
func (j *Journal) join(ctx context.Context, id string) (*topic, error) {
	j.mu.Lock()
	t := j.topics[id]
	if t == nil {
		t = &topic{id: id, followers: map[*storedReader]struct{}{}}
		j.topics[id] = t
	}
	t.users++
	j.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, j.config.Patience)
	defer cancel()
	if err := j.subscription.add(ctx, j.hashKey(id)); err != nil {
		j.leave(t)
		return nil, err
	}
	return t, nil
}

// leave gives a topic up.
func (j *Journal) leave(t *topic) {
	j.mu.Lock()
	t.users--
	last := t.users == 0
	if last {
		delete(j.topics, t.id)
	}
	j.mu.Unlock()
	j.subscription.remove(j.hashKey(t.id))
}

// follow counts a reader in, and says so to the completion's owner.
func (j *Journal) follow(t *topic, r *storedReader, at record) {
	t.mu.Lock()
	t.followers[r] = struct{}{}
	t.last = max(t.last, at.Last)
	t.owner = at.owner
	t.mu.Unlock()
	j.tellReaders(t)
}

// unfollow counts a reader out.
func (j *Journal) unfollow(t *topic, r *storedReader) {
	t.mu.Lock()
	delete(t.followers, r)
	t.mu.Unlock()
	j.tellReaders(t)
	j.leave(t)
}

// published takes in what the append script says: the sequence of a batch's first entry, a
// space, and the batch; or nothing, when the completion has no owner any more.
func (t *topic) published(message []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	number, frames, _ := bytes.Cut(message, []byte(" "))
	first, err := strconv.ParseInt(string(number), 10, 32)
	entries, malformed := decodeFrames(frames)
	if err != nil || malformed != nil || len(entries) == 0 {
		t.wake(true)
		return
	}
	for i := range entries {
		entries[i].Sequence = int32(first) + int32(i)
	}
	if n := len(t.tail); n > 0 && t.tail[n-1].Sequence+1 != entries[0].Sequence {
		t.tail, t.bytes = nil, 0 // there is a gap: those that are behind it read the store
	}
	t.tail, t.bytes = append(t.tail, entries...), t.bytes+len(frames)
	if n := len(t.tail); n > maxTail {
		t.tail = append([]journal.Entry(nil), t.tail[n-maxTail/2:]...)
		t.bytes /= 2
	}
	if t.bytes > maxTailBytes { // of this batch alone: those that are behind it read the store
		t.tail, t.bytes = entries, len(frames)
	}
	t.last = max(t.last, entries[len(entries)-1].Sequence)
	t.wake(false)
}

// wake lets the followers look again: into the store, if what was published may not be all.
// The caller holds the lock.
func (t *topic) wake(reread bool) {
	for r := range t.followers {
		r.reread = r.reread || reread
		select {
		case r.woken <- struct{}{}:
		default:
		}
	}
}

// look returns what was published behind a reader's cursor, or says whether the store is to
// be read.
func (t *topic) look(r *storedReader) (entries []journal.Entry, read bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.tail) > 0 {
		first := t.tail[0].Sequence
		if skip := int(r.last + 1 - first); skip >= 0 && skip < len(t.tail) {
			return t.tail[skip:len(t.tail):len(t.tail)], false
		}
	}
	read = r.reread || r.last < t.last
	r.reread = false
	return nil, read
}
