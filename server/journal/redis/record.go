package redis

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/sluice-sse/sluice/server/journal"
)

// record is what the store knows of a completion.
type record struct {
	journal.Info
	owner string // its instance; empty: it has given the completion up
	fence string
	lost  bool // its end was written for its owner
}

var recordFields = []string{"fence", "owner", "last", "ended", "lost", "principal", "key", "request", "model", "created"}

// record returns what the store knows of a completion: with ErrExpired still that, with
// ErrNotFound nothing.
func (j *Journal) record(ctx context.Context, id string) (record, error) {
	r, _, err := j.read(ctx, id, 0, 0)
	return r, err
}

// read does, and reads as many batches as n from the entry behind a sequence.
func (j *Journal) read(ctx context.Context, id string, after int32, n int64) (record, []journal.Entry, error) {
	b := j.client.B()
	hash := b.Hmget().Key(j.hashKey(id)).Field(recordFields...).Build()
	var results []rueidis.RedisResult
	if n == 0 {
		results = j.doMulti(ctx, hash, b.Exists().Key(j.streamKey(id)).Build())
	} else {
		start := strconv.Itoa(int(after) + 1)
		results = j.doMulti(ctx, hash, b.Exists().Key(j.streamKey(id)).Build(),
			b.Xrange().Key(j.streamKey(id)).Start(start).End("+").Count(n).Build())
	}
	r, err := parseRecord(id, results[0])
	if err != nil {
		return record{}, nil, err
	}
	exists, err := results[1].AsBool()
	if err != nil {
		return record{}, nil, err
	}
	if r.Last > 0 && !exists {
		return r, nil, journal.ErrExpired
	}
	if n == 0 {
		return r, nil, nil
	}
	batches, err := results[2].AsXRange()
	if err != nil {
		return r, nil, err
	}
	entries, err := parseBatches(batches, after)
	for i := range entries {
		if entries[i].Sequence == after+1+int32(i) {
			continue
		}
		if i == 0 {
			return r, nil, journal.ErrExpired
		}
		return r, entries[:i], nil // the next one is told
	}
	if err == nil && len(entries) == 0 && r.Ended && after < r.Last {
		return r, nil, journal.ErrExpired // the stream lacks its end
	}
	return r, entries, err
}

func parseRecord(id string, result rueidis.RedisResult) (record, error) {
	values, err := result.ToArray()
	if err != nil {
		return record{}, err
	}
	f := make([]string, len(values))
	for i := range values {
		if f[i], err = values[i].ToString(); err != nil && !rueidis.IsRedisNil(err) {
			return record{}, err
		}
	}
	if len(f) != len(recordFields) || f[0] == "" {
		return record{}, journal.ErrNotFound
	}
	last, _ := strconv.ParseInt(f[2], 10, 32)
	r := record{fence: f[0], owner: f[1], lost: f[4] != ""}
	r.Info = journal.Info{
		Completion: journal.Completion{ID: id, Principal: f[5], Key: f[6], Model: f[8]},
		Last:       int32(last),
		Ended:      f[3] != "",
	}
	r.CreateTime, _ = time.Parse(time.RFC3339Nano, f[9])
	copy(r.Request[:], f[7])
	return r, nil
}

// parseBatches returns the entries of batches that follow a sequence. The id of a batch is
// the sequence of its last entry.
func parseBatches(batches []rueidis.XRangeEntry, after int32) (all []journal.Entry, err error) {
	for _, b := range batches {
		to, _, _ := strings.Cut(b.ID, "-")
		last, err := strconv.ParseInt(to, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("a batch with the id %q: %w", b.ID, err)
		}
		entries, err := decodeFrames([]byte(b.FieldValues["b"]))
		if err != nil {
			return nil, err
		}
		for i := range entries {
			entries[i].Sequence = int32(last) - int32(len(entries)-1-i)
			if entries[i].Sequence > after {
				all = append(all, entries[i])
			}
		}
	}
	return all, nil
}
