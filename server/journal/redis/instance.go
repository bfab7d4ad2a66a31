package redis

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// cancel is what another instance is asked, until it has done it.
type cancel struct {
	owner string
	since time.Time
}

// keepAlive does what is to be done from time to time, until the journal is closed.
func (j *Journal) keepAlive() {
	ticker := time.NewTicker(j.config.Lease / 20)
	defer ticker.Stop()
	for n := 1; ; n++ {
		select {
		case <-ticker.C:
		case <-j.ctx.Done():
			return
		}
		switch {
		case n%5 == 0:
			j.repeat()
			j.checkOwners(n%20 == 0)
		default:
			j.checkDoubtful()
		}
	}
}

// repeat tells owners again what they may not have heard, and drops the readers of
// instances that have gone silent.
func (j *Journal) repeat() {
	j.mu.Lock()
	for id, c := range j.cancels {
		if time.Since(c.since) > 4*j.config.Lease {
			delete(j.cancels, id)
		}
	}
	cancels := maps.Clone(j.cancels)
	topics := slices.Collect(maps.Values(j.topics))
	j.mu.Unlock()
	j.tellAll(j.repeated(cancels, topics))
	silence := j.config.Lease
	if j.outage.isGone() || j.outage.isJustOver(j.config.Lease) || !j.subscription.hasHeard(j.config.Lease) {
		silence *= 2 // they cannot tell, and wait as long for the store
	}
	for _, w := range j.allWriters() {
		w.dropReaders(silence)
	}
}

// What instances tell each other, on the channel of the one that is told.

func cancelMessage(id string) string { return "cancel " + id }

// tellReaders tells the owner of a completion how many follow it here.
func (j *Journal) tellReaders(t *topic) {
	owner, message := j.readersOf(t)
	j.tell(j.ctx, owner, message)
}

// readersOf returns what to tell which instance of a completion's readers here. The news
// are numbered: they may overtake each other, and the latest counts.
func (j *Journal) readersOf(t *topic) (owner, message string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.owner, fmt.Sprintf("readers %d %d %s %s", len(t.followers), j.news.Add(1), j.instance, t.id)
}

// repeated is what owners are told again: to cancel, and how many follow what is theirs.
func (j *Journal) repeated(cancels map[string]cancel, topics []*topic) iter.Seq2[string, string] {
	return func(yield func(instance, message string) bool) {
		for id, c := range cancels {
			if !yield(c.owner, cancelMessage(id)) {
				return
			}
		}
		for _, t := range topics {
			if !yield(j.readersOf(t)) {
				return
			}
		}
	}
}

// tellAll does what tell does for many messages, with few round trips: all must be done
// within a lease.
func (j *Journal) tellAll(messages iter.Seq2[string, string]) {
	var some []rueidis.Completed
	send := func() {
		if len(some) > 0 && j.ctx.Err() == nil {
			j.publish(j.ctx, some...)
		}
		some = nil // a connection that breaks may still read it
	}
	for instance, message := range messages {
		switch instance {
		case "":
		case j.instance:
			j.told(message)
		default:
			some = append(some, j.client.B().Publish().Channel(j.leaseKey(instance)).Message(message).Build())
		}
		if len(some) == 256 {
			send()
		}
	}
	send()
}

// tell tells an instance something.
func (j *Journal) tell(ctx context.Context, instance, message string) {
	switch instance {
	case "":
	case j.instance:
		j.told(message)
	default:
		j.publish(context.WithoutCancel(ctx), j.client.B().Publish().Channel(j.leaseKey(instance)).Message(message).Build())
	}
}

// told does what another instance asks for.
func (j *Journal) told(message string) {
	what, rest, _ := strings.Cut(message, " ")
	switch what {
	case "cancel":
		if w := j.writer(rest); w != nil {
			w.owner.Cancel()
		}
	case "readers":
		f := strings.SplitN(rest, " ", 4)
		if len(f) != 4 {
			return
		}
		n, err := strconv.Atoi(f[0])
		number, err2 := strconv.ParseInt(f[1], 10, 64)
		if err != nil || err2 != nil {
			return
		}
		if w := j.writer(f[3]); w != nil {
			w.setReaders(f[2], n, number)
		} else if n > 0 {
			j.disown(f[3])
		}
	}
}

// maxDisowned is how many completions are looked at that others take for this instance's.
// Who follows one beyond that says so again.
const maxDisowned = 10_000

// disown has a completion be looked at that others take for this instance's, and is not: it
// has just ended, or the store has lost that it has.
func (j *Journal) disown(id string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.disowned) >= maxDisowned {
		return
	}
	j.disowned[id] = struct{}{}
	select {
	case j.disowning <- struct{}{}:
	default:
	}
}

// keepDisowning gives such completions up, one after the other, until the journal is closed.
func (j *Journal) keepDisowning() {
	for {
		select {
		case <-j.disowning:
		case <-j.ctx.Done():
			return
		}
		j.mu.Lock()
		ids := slices.Collect(maps.Keys(j.disowned))
		j.mu.Unlock()
		for _, id := range ids {
			at, err := j.record(j.ctx, id)
			if err == nil && !at.Ended && at.owner == j.instance && j.writer(id) == nil {
				_ = j.release(j.ctx, id, at.fence)
			}
			j.mu.Lock()
			delete(j.disowned, id) // not before: who says so again has not to be heard again
			j.mu.Unlock()
		}
	}
}

// later runs what nobody waits for but Close.
func (j *Journal) later(f func(context.Context)) {
	j.closing.Lock()
	defer j.closing.Unlock()
	if !j.closed {
		j.ended.Go(func() { f(context.WithoutCancel(j.ctx)) })
	}
}
