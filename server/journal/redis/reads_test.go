package redis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/testbed"
	"github.com/sluice-sse/sluice/server/journal"
)

// tap is an address that stands for the store, and can hold back what is sent there.
type tap struct {
	net.Listener
	before func(sent []byte) // is called before something is passed on; nil: nothing is

	mu   sync.Mutex // guards sent, and is held to hold back
	sent []byte
	held bool
}

// farFrom returns a way to a store that is far away once far is set.
func farFrom(t *testing.T, s *testbed.Redis) (way *testbed.Redis, far *atomic.Bool) {
	t.Helper()
	far = new(atomic.Bool)
	p := newTap(t, s.Addr, func([]byte) {
		if far.Load() {
			time.Sleep(5 * time.Millisecond)
		}
	})
	return &testbed.Redis{URL: "redis://" + p.Addr().String()}, far
}

func newTap(t *testing.T, target string, before func(sent []byte)) *tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{Listener: l, before: before}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			there, err := net.Dial("tcp", target)
			if err != nil {
				c.Close()
				continue
			}
			go func() { _, _ = io.Copy(c, there); c.Close() }()
			go func() { p.pass(there, c); there.Close() }()
		}
	}()
	return p
}

// pass passes on what is sent, as soon as it may.
func (p *tap) pass(there io.Writer, c io.Reader) {
	b := make([]byte, 64<<10)
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.sent = append(p.sent, b[:n]...)
		for p.held {
			p.mu.Unlock()
			time.Sleep(time.Millisecond)
			p.mu.Lock()
		}
		p.mu.Unlock()
		if p.before != nil {
			p.before(b[:n])
		}
		if _, err := there.Write(b[:n]); err != nil {
			return
		}
	}
}

func (p *tap) hold(held bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held, p.sent = held, nil
}

// inUse returns how many places are taken.
func (r *reads) inUse() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken
}

// TestReadersComeBackTogether has a connection break on which many are told, all of which
// read again then: few of them at a time, and all of them soon.
func TestReadersComeBackTogether(t *testing.T) {
	s := testbed.StartRedis(t)
	p := newTap(t, s.Addr, nil)
	a := open(t, s, Config{Lease: time.Hour})
	b := open(t, &testbed.Redis{URL: "redis://" + p.Addr().String()}, Config{Lease: time.Hour, Patience: time.Hour})
	const many = 1000
	var readers sync.WaitGroup
	var writers []journal.Writer
	for i := range many / 10 {
		id := fmt.Sprint("c", i)
		w, o := create(t, a, id)
		add(t, w, 1, 1)
		for range 10 {
			readers.Go(func() {
				if e, err := follow(soon(t), b, id, 0); err != nil || e.Sequence != 2 {
					t.Errorf("%s ends with %d, %v", id, e.Sequence, err)
				}
			})
		}
		writers = append(writers, w)
		eventually(t, "they do not come", func() bool { return o.readers.Load() == 10 })
	}
	eventually(t, "they still read", func() bool { return b.reads.inUse() == 0 })
	p.hold(true)
	b.rereadAll()
	eventually(t, "nobody reads", func() bool { return b.reads.inUse() == maxReads })
	time.Sleep(100 * time.Millisecond)
	p.mu.Lock()
	n := bytes.Count(p.sent, []byte("HMGET"))
	p.mu.Unlock()
	if n > maxReads {
		t.Errorf("%d read at once", n)
	}
	p.hold(false)
	for _, w := range writers {
		end(t, w, 2)
	}
	readers.Wait()
}

// TestReadsThatHang has reads not end: others get their places.
func TestReadsThatHang(t *testing.T) {
	r := reads{max: 2, long: 10 * time.Millisecond}
	for range 10 {
		end, err := r.begin(soon(t))
		if err != nil {
			t.Fatal(err)
		}
		defer end()
	}
	r.long = time.Hour
	eventually(t, "places are lost", func() bool { return r.inUse() == 0 })
	for range 2 {
		end, err := r.begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer end()
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.begin(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("one that has gone: %v", err)
	}
	if n := r.queue.Len(); n > 0 {
		t.Errorf("%d wait that have gone", n)
	}
}

// TestPublishedToThoseWhoWait has readers wait for a place for long: they are shown what is
// published meanwhile, and go on waiting, or leave.
func TestPublishedToThoseWhoWait(t *testing.T) {
	s := testbed.StartRedis(t)
	a, b := open(t, s, Config{}), open(t, s, Config{Lease: time.Hour, Patience: time.Hour})
	w, _ := create(t, a, "c")
	add(t, w, 1, 1)
	r, err := b.Follow(soon(t), "c", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if entries, err := r.Next(soon(t)); len(entries) != 1 || err != nil {
		t.Fatal(entries, err)
	}
	var ends []func()
	for range maxReads {
		end, err := b.reads.begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, end)
	}
	for sequence := int32(2); sequence < 10; sequence++ {
		next := make(chan error, 1)
		go func() {
			entries, err := r.Next(soon(t))
			if err == nil && (len(entries) != 1 || entries[0].Sequence != sequence) {
				err = fmt.Errorf("%v", entries)
			}
			next <- err
		}()
		time.Sleep(time.Duration(sequence%3) * 10 * time.Millisecond)
		if sequence == 5 {
			b.rereadAll() // says that there is something, and there is nothing
		}
		add(t, w, sequence, sequence)
		if err := <-next; err != nil {
			t.Fatalf("event %d: %v", sequence, err)
		}
	}
	gone, leave := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, leave)
	if _, err := r.Next(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("one that leaves: %v", err)
	}
	for _, end := range ends {
		end()
	}
	end(t, w, 10)
	if entries, err := r.Next(soon(t)); err != nil || len(entries) != 1 || entries[0].Sequence != 10 {
		t.Error(entries, err)
	}
	eventually(t, "places are lost", func() bool { return b.reads.inUse() == 0 })
}
