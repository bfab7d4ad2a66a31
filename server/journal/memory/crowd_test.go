package memory

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-sse/sluice/server/journal"
)

// crowded is a Memory with more running completions than there is room for, in a bubble.
type crowded struct {
	t       *testing.T
	random  *rand.Rand
	memory  *Journal
	running []*growing
	created int
	waited  int
	granted int
	full    int
}

// growing is one of them.
type growing struct {
	*log
	next  journal.Entry // that it waits to append
	wait  chan error    // what Wait returns; nil: it does not wait
	leave context.CancelFunc
}

// TestRoomAtRandom has completions begin, grow, wait, stop waiting and end in orders that
// nobody chose, and checks after each step what room promises.
func TestRoomAtRandom(t *testing.T) {
	for i, config := range []Config{
		{Bytes: 16 << 10, MaxCompletion: 1 << 20},
		{Bytes: 40 << 10, MaxCompletion: 9000},
		{Bytes: 64 << 10},
		{Bytes: 256 << 10},
	} {
		config.Retention = time.Minute
		for seed := range uint64(10) {
			t.Run(fmt.Sprint(i, "/", seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := &crowded{t: t, random: rand.New(rand.NewPCG(uint64(i), seed)), memory: New(config)}
					defer c.memory.Close()
					for range 1500 {
						c.step()
						c.check()
						c.resume()
					}
					for len(c.running) > 0 {
						c.end(c.running[c.random.IntN(len(c.running))])
						c.check()
						c.resume()
					}
					time.Sleep(2 * config.Retention)
					synctest.Wait()
					if m := c.memory; m.Len() != 0 || m.Bytes() != 0 || m.budget.shares != 0 {
						t.Errorf("at the end: %d known, %d bytes, %d shared out", m.Len(), m.Bytes(), m.budget.shares)
					}
					t.Logf("%d created; waited %d times: %d had room, %d found the memory full", c.created, c.waited, c.granted, c.full)
					if c.waited == 0 || c.granted == 0 {
						t.Error("the test tests little")
					}
				})
			})
		}
	}
}

func (c *crowded) step() {
	op := c.random.IntN(20)
	if op < 3 || len(c.running) == 0 {
		c.begin()
		return
	}
	g := c.running[c.random.IntN(len(c.running))]
	switch {
	case op == 3:
		time.Sleep(time.Duration(c.random.IntN(30)) * time.Second)
	case g.wait != nil:
		if op < 6 {
			g.leave()
		}
	case op == 4:
		c.end(g)
	default:
		c.grow(g)
	}
}

func (c *crowded) begin() {
	c.created++
	w, _, err := c.memory.Create(c.t.Context(), journal.Completion{ID: fmt.Sprint(c.created), Key: fmt.Sprint(c.random.IntN(1e6))}, nobody{})
	if err != nil || w == nil {
		return
	}
	if c.memory.budget.waiting.Len() > 0 {
		c.t.Fatal("a new one is admitted while others wait")
	}
	c.running = append(c.running, &growing{log: w.(*log)})
}

func (c *crowded) grow(g *growing) {
	size := c.random.IntN(600)
	if c.random.IntN(20) == 0 {
		size = c.random.IntN(20_000)
	}
	room := &c.memory.budget
	before, mayPass := g.bytes, room.waiting.Len() == 0 || g.log == room.oldest()
	g.next = journal.Entry{Sequence: g.last + 1, Data: make([]byte, size)}
	_, err := appendOne(c.t.Context(), g, g.next)
	switch {
	case errors.Is(err, journal.ErrFull):
		c.waited++
		ctx, leave := context.WithCancel(c.t.Context())
		g.wait, g.leave = make(chan error, 1), leave
		go func() { g.wait <- g.Wait(ctx, g.next) }()
	case errors.Is(err, journal.ErrTooLarge):
		c.end(g)
	case err != nil:
		c.t.Fatal(err)
	case !mayPass && g.bytes > max(before, room.reservation):
		c.t.Fatal("it took room that others wait for")
	}
}

// end ends one, which may be waiting.
func (c *crowded) end(g *growing) {
	if g.wait != nil {
		g.leave()
		<-g.wait
	}
	if _, err := appendOne(c.t.Context(), g, journal.Entry{Sequence: g.last + 1, Kind: journal.Finished, Data: make([]byte, c.random.IntN(800))}); err != nil {
		c.t.Fatal(err)
	}
	c.running = slices.DeleteFunc(c.running, func(other *growing) bool { return other == g })
}

// resume has those write on that need not wait any more, or ends them.
func (c *crowded) resume() {
	for _, g := range slices.Clone(c.running) {
		if len(g.wait) == 0 {
			continue
		}
		err := <-g.wait
		g.leave()
		g.wait = nil
		switch {
		case err == nil:
			c.granted++
		case errors.Is(err, journal.ErrFull):
			c.full++
			if g.bytes+int64(len(g.next.Data))+firstPage <= c.memory.budget.guaranteed {
				c.t.Fatalf("the memory is full for one with %d bytes", g.bytes)
			}
		}
		if err != nil || c.random.IntN(3) == 0 {
			c.end(g)
		} else if _, err := appendOne(c.t.Context(), g, g.next); err != nil {
			c.t.Fatal(err)
		}
		c.check()
	}
}

// check checks the counters, and that nobody waits who need not.
func (c *crowded) check() {
	c.t.Helper()
	synctest.Wait()
	audit(c.t, c.memory)
	m := c.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.budget.running.Len(); n != len(c.running) {
		c.t.Fatalf("%d run, and %d are counted", len(c.running), n)
	}
	if oldest := m.budget.oldest(); oldest != nil {
		if oldest.account.waiting != nil {
			c.t.Fatal("the oldest waits")
		}
		if all := m.budget.shares + m.budget.setAside(oldest.bytes); all > m.budget.size {
			c.t.Fatalf("%d bytes of %d are promised", all, m.budget.size)
		}
	}
	if first := m.budget.waiting.Front(); first != nil {
		if w := first.Value.(*waiter); m.budget.fits(w.log, int64(w.grow)) {
			c.t.Fatal("the first that waits has room")
		}
	}
}
