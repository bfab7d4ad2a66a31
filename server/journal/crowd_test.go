package journal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// crowded is a Memory with more running completions than there is room for, in a bubble.
type crowded struct {
	t       *testing.T
	random  *rand.Rand
	memory  *Memory
	running []*growing
	created int
	waited  int
	granted int
	full    int
}

// growing is one of them.
type growing struct {
	*log
	next  Entry      // that it waits to append
	wait  chan error // what Wait returns; nil: it does not wait
	leave context.CancelFunc
}

// TestRoomAtRandom has completions begin, grow, wait, stop waiting and end in orders that
// nobody chose, and checks after each step what room promises.
func TestRoomAtRandom(t *testing.T) {
	for i, config := range []MemoryConfig{
		{Bytes: 16 << 10, MaxCompletion: 1 << 20},
		{Bytes: 40 << 10, MaxCompletion: 9000},
		{Bytes: 64 << 10},
		{Bytes: 256 << 10},
	} {
		config.Retention = time.Minute
		for seed := range uint64(10) {
			t.Run(fmt.Sprint(i, "/", seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := &crowded{t: t, random: rand.New(rand.NewPCG(uint64(i), seed)), memory: NewMemory(config)}
					defer c.memory.Close()
					for range 1500 {
						c.step()
						c.check()
						c.goOn()
					}
					for len(c.running) > 0 {
						c.end(c.running[c.random.IntN(len(c.running))])
						c.check()
						c.goOn()
					}
					time.Sleep(2 * config.Retention)
					synctest.Wait()
					if m := c.memory; m.Len() != 0 || m.Bytes() != 0 || m.room.shares != 0 {
						t.Errorf("at the end: %d known, %d bytes, %d shared out", m.Len(), m.Bytes(), m.room.shares)
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
	w, _, err := c.memory.Create(c.t.Context(), Completion{ID: fmt.Sprint(c.created), Key: fmt.Sprint(c.random.IntN(1e6))})
	if err != nil || w == nil {
		return
	}
	if c.memory.room.waiting.Len() > 0 {
		c.t.Fatal("a new one is admitted while others wait")
	}
	c.running = append(c.running, &growing{log: w.(*log)})
}

func (c *crowded) grow(g *growing) {
	size := c.random.IntN(600)
	if c.random.IntN(20) == 0 {
		size = c.random.IntN(20_000)
	}
	room := &c.memory.room
	before, mayPass := g.bytes, room.waiting.Len() == 0 || g.log == room.oldest()
	g.next = Entry{g.last + 1, Event, make([]byte, size)}
	_, err := g.Append(c.t.Context(), g.next)
	switch {
	case errors.Is(err, ErrFull):
		c.waited++
		ctx, leave := context.WithCancel(c.t.Context())
		g.wait, g.leave = make(chan error, 1), leave
		go func() { g.wait <- g.Wait(ctx, g.next) }()
	case errors.Is(err, ErrTooLarge):
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
	if _, err := g.Append(c.t.Context(), Entry{g.last + 1, Finished, make([]byte, c.random.IntN(800))}); err != nil {
		c.t.Fatal(err)
	}
	c.running = slices.DeleteFunc(c.running, func(other *growing) bool { return other == g })
}

// goOn has those write on that need not wait any more, or ends them.
func (c *crowded) goOn() {
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
		case errors.Is(err, ErrFull):
			c.full++
			if g.bytes+int64(len(g.next.Data))+firstPage <= c.memory.room.guaranteed {
				c.t.Fatalf("the memory is full for one with %d bytes", g.bytes)
			}
		}
		if err != nil || c.random.IntN(3) == 0 {
			c.end(g)
		} else if _, err := g.Append(c.t.Context(), g.next); err != nil {
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
	if n := m.room.running.Len(); n != len(c.running) {
		c.t.Fatalf("%d run, and %d are counted", len(c.running), n)
	}
	if oldest := m.room.oldest(); oldest != nil {
		if oldest.place.waiting != nil {
			c.t.Fatal("the oldest waits")
		}
		if all := m.room.shares + m.room.aside(oldest.bytes); all > m.room.size {
			c.t.Fatalf("%d bytes of %d are promised", all, m.room.size)
		}
	}
	if first := m.room.waiting.Front(); first != nil {
		if w := first.Value.(*waiter); m.room.fits(w.log, int64(w.grow)) {
			c.t.Fatal("the first that waits has room")
		}
	}
}
