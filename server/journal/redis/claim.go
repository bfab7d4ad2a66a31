package redis

import (
	"cmp"
	"context"
	"errors"
	"maps"

	"github.com/redis/rueidis"

	"github.com/sluice-sse/sluice/server/journal"
)

// claim makes a completion's hash, and claims its key. It returns the completion that the
// key stands for. The hash is first: who finds the key finds the completion.
func (j *Journal) claim(ctx context.Context, w *writer) (journal.Completion, error) {
	if err := j.create(ctx, w); err != nil || w.Key == "" {
		return w.Completion, err
	}
	return j.claimKeyFor(ctx, w)
}

// errUnsettled is why a new completion does not get a key: the part of a cluster that had the
// one for which it stands has just lost that, and its owner may be about to write it again.
var errUnsettled = errors.New("the journal's store may just have lost what the idempotency key stands for")

// claimKeyFor claims the key of a completion that is there.
func (j *Journal) claimKeyFor(ctx context.Context, w *writer) (journal.Completion, error) {
	key := j.claimKey(w.Principal, w.Key)
	for range 10 { // until nothing changes in between
		err := j.do(ctx, j.client.B().Set().Key(key).Value(w.ID).Nx().PxMilliseconds(j.life().Milliseconds()).Build()).Error()
		if err == nil {
			return w.Completion, nil
		}
		if !rueidis.IsRedisNil(err) {
			return journal.Completion{}, err
		}
		id, err := j.holder(ctx, w.Principal, w.Key)
		if errors.Is(err, journal.ErrNotFound) {
			continue
		}
		if err != nil {
			return journal.Completion{}, err
		}
		record, err := j.record(ctx, id)
		if id == w.ID { // the answer to the first try was lost
			return w.Completion, nil
		}
		if !errors.Is(err, journal.ErrNotFound) && !j.isWithdrawn(id) {
			if err == nil || errors.Is(err, journal.ErrExpired) {
				return record.Completion, nil
			}
			return journal.Completion{}, err
		}
		if isNew := w.held == nil; isNew && j.isUnsettled() && !j.isWithdrawn(id) {
			return journal.Completion{}, errUnsettled
		}
		// The store has lost the completion, and not the key; or it was never begun.
		if err := j.exec(ctx, replaceScript, []string{key}, id, w.ID, milliseconds(j.life())).Error(); err != nil {
			return journal.Completion{}, err
		}
	}
	return journal.Completion{}, errors.New("an idempotency key is claimed and released all the time")
}

// withdraw takes back what claim has put into the store, or may still put there: a command
// that has got no answer may come to a store that stood still after all that follow it.
func (j *Journal) withdraw(w *writer, claimed error) {
	if claimed == nil && j.takeBack(w.ID, w.Principal, w.Key) == nil {
		return
	}
	if errors.Is(claimed, errGone) {
		return // nothing was sent, or what was expires
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.withdrawn) < maxWithdrawn {
		j.withdrawn[w.ID] = withdrawal{principal: w.Principal, key: w.Key}
	}
}

// maxWithdrawn is how many claims are taken back when the store is well again. Those of
// more stand until they expire: who uses such a key is told that its owner is lost.
const maxWithdrawn = 10_000

// withdrawal is a claim that is to be taken back.
type withdrawal struct {
	principal, key string
	again          bool // it has been, once
}

func (j *Journal) takeBack(id, principal, key string) (err error) {
	if key != "" {
		err = j.exec(j.ctx, withdrawScript, []string{j.claimKey(principal, key)}, id).Error()
	}
	return cmp.Or(err, j.do(j.ctx, j.client.B().Del().Key(j.hashKey(id)).Build()).Error())
}

// takeAllBack takes claims back, each twice, so long after each other that what was sent
// before has come.
func (j *Journal) takeAllBack() {
	j.mu.Lock()
	withdrawn := maps.Clone(j.withdrawn)
	j.mu.Unlock()
	for id, c := range withdrawn {
		if j.takeBack(id, c.principal, c.key) != nil {
			return
		}
		j.mu.Lock()
		if c.again {
			delete(j.withdrawn, id)
		} else {
			c.again = true
			j.withdrawn[id] = c
		}
		j.mu.Unlock()
	}
}

// isWithdrawn tells whether a claim of this process is to be taken back.
func (j *Journal) isWithdrawn(id string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	_, is := j.withdrawn[id]
	return is
}

// holder returns the id of the completion that a key stands for.
func (j *Journal) holder(ctx context.Context, principal, key string) (string, error) {
	id, err := j.do(ctx, j.client.B().Get().Key(j.claimKey(principal, key)).Build()).ToString()
	if rueidis.IsRedisNil(err) {
		return "", journal.ErrNotFound
	}
	return id, err
}

// expireClaim has a key go when all else of its completion goes.
func (j *Journal) expireClaim(w *writer) {
	if w.Key != "" {
		j.later(func(ctx context.Context) {
			j.do(ctx, j.client.B().Pexpire().Key(j.claimKey(w.Principal, w.Key)).Milliseconds(2*j.config.Retention.Milliseconds()).Build())
		})
	}
}
