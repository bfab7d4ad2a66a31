package redis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/testbed"
)

// calls returns how often a store has run a command.
func calls(t *testing.T, s *testbed.Redis, command string) int {
	t.Helper()
	node := connect(t, s)
	info, err := node.Do(t.Context(), node.B().Info().Section("commandstats").Build()).ToString()
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`cmdstat_` + command + `:calls=(\d+)`).FindStringSubmatch(info)
	if found == nil {
		return 0
	}
	n, _ := strconv.Atoi(found[1])
	return n
}

// TestSubscribeTogether has many readers come, and then go, while a command is under way:
// those go together.
func TestSubscribeTogether(t *testing.T) {
	s := testbed.StartRedis(t)
	j := open(t, s, Config{Patience: 10 * time.Second})
	before := [2]int{calls(t, s, "subscribe"), calls(t, s, "unsubscribe")}
	const many = 500
	s.Signal(syscall.SIGSTOP)
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() {
			if err := j.subscription.add(soon(t), fmt.Sprint("channel", i)); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "they do not come", func() bool {
		j.subscription.mu.Lock()
		defer j.subscription.mu.Unlock()
		return len(j.subscription.channels) == many+1
	})
	s.Signal(syscall.SIGCONT)
	all.Wait()
	for i := range many {
		j.subscription.remove(fmt.Sprint("channel", i))
	}
	eventually(t, "they do not go", func() bool {
		n, err := j.client.Do(t.Context(), j.client.B().PubsubChannels().Build()).AsStrSlice()
		return err == nil && len(n) == 1
	})
	// One for what was first, and what comes while others still go.
	if n := calls(t, s, "subscribe") - before[0]; n > 3 {
		t.Errorf("%d times SUBSCRIBE", n)
	}
	if n := calls(t, s, "unsubscribe") - before[1]; n > many/10 {
		t.Errorf("%d times UNSUBSCRIBE", n)
	}
}

// TestSubscriptionsAtRandom has channels be used and given up at random, and the connection
// break: in the end those are subscribed to that are used, and whoever has been told that
// one is, gets what is published on it.
func TestSubscriptionsAtRandom(t *testing.T) {
	t.Parallel()
	s := testbed.StartRedis(t)
	j := open(t, s, Config{})
	const names = 20
	var all sync.WaitGroup
	for worker := range 20 {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(worker)))
			for range 100 {
				name := fmt.Sprint("channel", rng.IntN(names))
				if err := j.subscription.add(soon(t), name); err != nil {
					t.Error(err)
				}
				if rng.IntN(200) == 0 {
					_ = j.client.Do(t.Context(), j.client.B().Arbitrary("CLIENT", "KILL", "TYPE", "pubsub").Build()).Error()
				}
				j.subscription.remove(name)
			}
			if err := j.subscription.add(soon(t), fmt.Sprint("kept", worker)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	eventually(t, "others are subscribed to than are used", func() bool {
		channels, err := j.client.Do(t.Context(), j.client.B().PubsubChannels().Build()).AsStrSlice()
		j.subscription.mu.Lock()
		defer j.subscription.mu.Unlock()
		return err == nil && len(channels) == 21 && len(j.subscription.channels) == 21 && len(j.subscription.unsettled) == 0
	})
}

// TestSubscribersGoneMeanwhile has somebody who comes give up before the store has
// confirmed it, and another one come for the same: that one is told of the confirmation.
func TestSubscribersGoneMeanwhile(t *testing.T) {
	s := testbed.StartRedis(t)
	j := open(t, s, Config{Patience: 10 * time.Second})
	s.Signal(syscall.SIGSTOP)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 10 {
		_ = j.subscription.add(gone, "c")
		j.subscription.remove("c")
	}
	s.Signal(syscall.SIGCONT)
	if err := j.subscription.add(soon(t), "c"); err != nil {
		t.Fatal(err)
	}
	n, err := j.client.Do(t.Context(), j.client.B().Publish().Channel("c").Message("").Build()).AsInt64()
	if err != nil || n != 1 {
		t.Errorf("%d hear of it, %v", n, err)
	}
}

// TestReconnectsWhileReadersComeAndGo has a connection break, and readers come and go all
// the time: those who were there before learn what was published in between.
func TestReconnectsWhileReadersComeAndGo(t *testing.T) {
	s := testbed.StartRedis(t)
	way, far := farFrom(t, s)
	a := open(t, s, Config{Lease: time.Hour})
	b := open(t, way, Config{Lease: time.Hour, Patience: 4 * time.Second})
	w, _ := create(t, a, "c")
	add(t, w, 1, 1)
	r, err := b.Follow(soon(t), "c", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	gone, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if entries, err := r.Next(gone); err == nil { // it has read the store
		t.Fatal(entries)
	}
	far.Store(true)
	stop := make(chan struct{})
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
					b.subscription.use(fmt.Sprint("channel", worker, ".", i))
					b.subscription.remove(fmt.Sprint("channel", worker, ".", i-20))
				}
			}
		})
	}
	run(t, a, "CLIENT", "KILL", "TYPE", "pubsub")
	eventually(t, "no connection breaks", func() bool { return b.outage.isShaken(time.Hour) })
	add(t, w, 2, 2)
	late, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if entries, err := r.Next(late); err != nil || len(entries) != 1 || entries[0].Sequence != 2 {
		t.Errorf("%v, %v", entries, err)
	}
	close(stop)
	all.Wait()
	end(t, w, 3)
}
