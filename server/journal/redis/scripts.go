package redis

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/sluice-sse/sluice/server/journal"
)

// The keys of a completion have its id in braces, and so are in one slot.
func (j *Journal) hashKey(id string) string   { return j.config.Prefix + ":{" + id + "}" }
func (j *Journal) streamKey(id string) string { return j.hashKey(id) + ":entries" }

// leaseKey is there as long as an instance lives. It is also the channel on which the
// instance is told things.
func (j *Journal) leaseKey(instance string) string { return j.config.Prefix + ":instance:" + instance }

// claimKey has the id of the completion for which a principal has used a key.
func (j *Journal) claimKey(principal, key string) string {
	b := binary.AppendUvarint(nil, uint64(len(principal)))
	sum := sha256.Sum256(append(append(b, principal...), key...))
	return j.config.Prefix + ":key:" + hex.EncodeToString(sum[:])
}

// What the scripts answer, each with the sequence of the last entry.
const (
	isUnknown = iota // there is no such completion
	isFenced         // somebody else writes it, or it has ended
	isThere          // the entries are there
	hasGap           // entries are missing before these
)

// createScript makes a completion's hash. KEYS: it, the stream. ARGV: how long it lives, in
// milliseconds, and its fields.
var createScript = rueidis.NewLuaScript(`
if redis.call('EXISTS', KEYS[1]) == 0 then
	redis.call('DEL', KEYS[2])
	redis.call('HSET', KEYS[1], unpack(ARGV, 2))
	redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return 1`)

// endFunction is what all scripts share that write the end.
const endFunction = `
local function ending(retention)
	redis.call('HSET', KEYS[1], 'ended', 1)
	redis.call('PEXPIRE', KEYS[2], retention)
	redis.call('PEXPIRE', KEYS[1], 2 * retention)
end
`

// appendScript appends a batch. KEYS: the hash, the stream. ARGV: the fence, the sequences
// of the first entry and the last one, their frames, how long the stream lives, in
// milliseconds, and whether the last entry is the end.
//
// A batch that the script has got before is there already: the answer had been lost. When
// the stream is gone, all is missing that was in it.
var appendScript = rueidis.NewLuaScript(endFunction + `
local h = redis.call('HMGET', KEYS[1], 'fence', 'last', 'ended')
if not h[1] then return {0, 0} end
local last, first, to = tonumber(h[2]), tonumber(ARGV[2]), tonumber(ARGV[3])
if h[1] ~= ARGV[1] then return {1, last} end
if last >= to then return {2, last} end
if h[3] then return {1, last} end
if last + 1 ~= first then return {3, last} end
if last > 0 and redis.call('EXISTS', KEYS[2]) == 0 then
	redis.call('HSET', KEYS[1], 'last', 0)
	return {3, 0}
end
redis.call('XADD', KEYS[2], to .. '-0', 'b', ARGV[4])
redis.call('HSET', KEYS[1], 'last', to)
if ARGV[6] == '1' then ending(tonumber(ARGV[5]))
elseif first == 1 then redis.call('PEXPIRE', KEYS[2], ARGV[5]) end
redis.call('PUBLISH', KEYS[1], first .. ' ' .. ARGV[4])
return {2, to}`)

// endLostScript raises the fence and writes the end. KEYS: the hash, the stream. ARGV: the
// fence that its owner had, the frame of the end, the retention in milliseconds.
var endLostScript = rueidis.NewLuaScript(endFunction + `
local h = redis.call('HMGET', KEYS[1], 'fence', 'last', 'ended')
if not h[1] then return {0, 0} end
local last = tonumber(h[2])
if h[3] or h[1] ~= ARGV[1] then return {1, last} end
local to = last + 1
redis.call('XADD', KEYS[2], to .. '-0', 'b', ARGV[2])
redis.call('HSET', KEYS[1], 'last', to, 'fence', h[1] + 1, 'lost', 1)
ending(tonumber(ARGV[3]))
redis.call('PUBLISH', KEYS[1], to .. ' ' .. ARGV[2])
return {2, to}`)

// releaseScript notes that a completion that has not ended has no owner any more, and says
// so to those that follow it. KEYS: the hash, the stream. ARGV: the owner's fence, its instance, the
// retention.
var releaseScript = rueidis.NewLuaScript(`
local h = redis.call('HMGET', KEYS[1], 'fence', 'ended', 'owner')
if h[1] ~= ARGV[1] or h[2] or h[3] ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'owner', '')
redis.call('PEXPIRE', KEYS[1], 2 * ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('PUBLISH', KEYS[1], '')
return 1`)

// withdrawScript deletes a key that still stands for a completion. KEYS: it. ARGV: the id.
var withdrawScript = rueidis.NewLuaScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0`)

// replaceScript has a key stand for another completion. KEYS: it. ARGV: the old id, the new
// one, how long it lives.
var replaceScript = rueidis.NewLuaScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1`)

func milliseconds(d time.Duration) string { return strconv.FormatInt(max(1, d.Milliseconds()), 10) }

// life is how long what a running completion has in the store lives, if nothing more is
// heard of it.
func (j *Journal) life() time.Duration { return j.config.Life + 2*j.config.Retention }

// create makes a completion's hash.
func (j *Journal) create(ctx context.Context, w *writer) error {
	c := &w.Completion
	return j.exec(ctx, createScript, []string{j.hashKey(c.ID), j.streamKey(c.ID)}, milliseconds(j.life()),
		"fence", w.fence, "owner", j.instance, "last", "0",
		"principal", c.Principal, "key", c.Key, "request", string(c.Request[:]), "model", c.Model,
		"created", c.CreateTime.UTC().Format(time.RFC3339Nano)).Error()
}

// appendBatch appends entries to what the store has. It returns one of the answers, and
// the sequence of the last entry.
func (j *Journal) appendBatch(ctx context.Context, w *writer, entries []journal.Entry) (answer int, last int32, err error) {
	end := entries[len(entries)-1]
	life, ended := j.life(), "0"
	if end.Kind != journal.Event {
		life, ended = j.config.Retention, "1"
	}
	return answered(j.exec(ctx, appendScript, []string{j.hashKey(w.ID), j.streamKey(w.ID)},
		w.fence, strconv.Itoa(int(entries[0].Sequence)), strconv.Itoa(int(end.Sequence)),
		rueidis.BinaryString(appendFrames(nil, entries)), milliseconds(life), ended))
}

// endLost raises a completion's fence and writes its end.
func (j *Journal) endLost(ctx context.Context, r record, data []byte) error {
	frame := appendFrames(nil, []journal.Entry{{Kind: journal.Failed, Data: data}})
	answer, _, err := answered(j.exec(ctx, endLostScript, []string{j.hashKey(r.ID), j.streamKey(r.ID)},
		r.fence, rueidis.BinaryString(frame), milliseconds(j.config.Retention)))
	switch {
	case err != nil:
		return err
	case answer == isUnknown:
		return journal.ErrNotFound
	case answer == isFenced:
		return journal.ErrFenced
	}
	return nil
}

// release gives a completion up that has no end.
func (j *Journal) release(ctx context.Context, id, fence string) error {
	return j.exec(ctx, releaseScript, []string{j.hashKey(id), j.streamKey(id)}, fence, j.instance, milliseconds(j.config.Retention)).Error()
}

// answered is what a script answers.
func answered(result rueidis.RedisResult) (answer int, last int32, err error) {
	numbers, err := result.AsIntSlice()
	if err != nil {
		return 0, 0, err
	}
	if len(numbers) != 2 {
		return 0, 0, fmt.Errorf("a script answers with %d numbers", len(numbers))
	}
	return int(numbers[0]), int32(numbers[1]), nil
}
