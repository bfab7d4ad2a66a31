package redis

import (
	"bytes"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/redis/rueidis"

	"github.com/sluice-sse/sluice/internal/testbed"
	"github.com/sluice-sse/sluice/server/journal"
)

// TestStoreKeepsNothing has a store that takes all, and has lost it when it is asked next:
// the completion fails with that reason, and who reads here has all of it.
func TestStoreKeepsNothing(t *testing.T) {
	t.Parallel()
	s := testbed.StartRedis(t)
	node := connect(t, s)
	const last = 2000 // more than are read from memory at a time
	for _, key := range []string{"sluice:{c}", "sluice:{c}:entries"} {
		t.Run(key, func(t *testing.T) {
			var lost atomic.Bool
			p := newTap(t, s.Addr, func(sent []byte) {
				if lost.Load() && bytes.Contains(sent, []byte("EVAL")) && bytes.Contains(sent, []byte("sluice:{c}:entries")) {
					node.Do(t.Context(), node.B().Del().Key(key).Build())
				}
			})
			a := open(t, &testbed.Redis{URL: "redis://" + p.Addr().String()}, Config{})
			w, _ := create(t, a, "c")
			r, err := a.Follow(soon(t), "c", 0)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			add(t, w, 1, last)
			lost.Store(true)
			if n, err := w.Append(soon(t), []journal.Entry{event(last + 1)}); n != 1 || !errors.Is(err, errForgets) {
				t.Fatalf("%d, %v", n, err)
			}
			if n, err := w.Append(soon(t), []journal.Entry{{Sequence: last + 2, Kind: journal.Failed, Data: []byte("why")}}); n != 1 || err != nil {
				t.Errorf("the end: %d, %v", n, err)
			}
			w.Close()
			var end journal.Entry
			for sequence := int32(0); sequence < last+2; {
				entries, err := r.Next(soon(t))
				if err != nil {
					t.Fatal(err)
				}
				for _, end = range entries {
					if sequence++; end.Sequence != sequence {
						t.Fatalf("%d for %d", end.Sequence, sequence)
					}
				}
			}
			if end.Kind != journal.Failed || string(end.Data) != "why" {
				t.Errorf("it ends with %+v", end)
			}
			lost.Store(false)
			node.Do(t.Context(), node.B().Flushall().Build())
		})
	}
}

// TestStoreIsStartedAgainAndAgain has a store come back empty all the time, for as long as
// no command takes: it counts as gone, and no completion fails.
func TestStoreIsStartedAgainAndAgain(t *testing.T) {
	t.Parallel()
	s := testbed.StartRedis(t)
	node := connect(t, s)
	var failing atomic.Bool
	var commands atomic.Int32
	p := newTap(t, s.Addr, func(sent []byte) {
		if !failing.Load() || !bytes.Contains(sent, []byte("EVAL")) || !bytes.Contains(sent, []byte("sluice:{c}:entries")) {
			return
		}
		if node.Do(t.Context(), node.B().Flushall().Build()); commands.Add(1)%2 == 0 {
			node.Do(t.Context(), node.B().Arbitrary("CLIENT", "KILL", "TYPE", "normal").Build())
		}
	})
	a := open(t, &testbed.Redis{URL: "redis://" + p.Addr().String()}, Config{})
	b := open(t, s, Config{})
	w, _ := create(t, a, "c")
	add(t, w, 1, 10)
	failing.Store(true)
	add(t, w, 11, 11)
	add(t, w, 12, 12)
	failing.Store(false)
	end(t, w, 13)
	if e, err := followSoon(t, b, "c"); err != nil || e.Sequence != 13 || e.Kind != journal.Finished {
		t.Errorf("it ends with %+v, %v", e, err)
	}
}

// TestWorst has commands of one turn come to different ends.
func TestWorst(t *testing.T) {
	s := testbed.StartRedis(t)
	a := open(t, s, Config{})
	b := a.client.B()
	run(t, a, "SET", "text", "x")
	run(t, a, "CONFIG", "SET", "min-replicas-to-write", "1")
	results := a.client.DoMulti(t.Context(), b.Set().Key("k").Value("v").Build(), b.Get().Key("text").Build(), b.Hget().Key("text").Field("f").Build())
	refused, wrong := results[0].Error(), results[2].Error()
	fine, none := results[1], rueidis.NewErrorResult(rueidis.Nil)
	broken := rueidis.NewErrorResult(errors.New("broken"))
	for i, tt := range []struct {
		results []rueidis.RedisResult
		want    error
	}{
		{[]rueidis.RedisResult{fine, fine}, nil},
		{[]rueidis.RedisResult{results[0], fine}, refused},
		{[]rueidis.RedisResult{fine, results[0], results[2]}, refused},
		{[]rueidis.RedisResult{none, results[2], fine}, rueidis.Nil},
		{[]rueidis.RedisResult{results[2], fine}, wrong},
		{[]rueidis.RedisResult{results[0], broken, fine}, broken.Error()},
	} {
		if err := worst(tt.results); fmt.Sprint(err) != fmt.Sprint(tt.want) {
			t.Errorf("%d: %v, want %v", i, err, tt.want)
		}
	}
	if isOutage(wrong) || !isOutage(refused) {
		t.Errorf("%v, %v", wrong, refused)
	}
	// What only one of them says counts: the store is as good as gone.
	a.outage.set(false)
	a.doMulti(t.Context(), b.Set().Key("k").Value("v").Build(), b.Get().Key("text").Build())
	if !a.outage.isFailing() {
		t.Error("a refusal in front of a success does not count")
	}
}
