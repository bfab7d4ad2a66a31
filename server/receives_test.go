package server

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/peer"

	"github.com/sluice-sse/sluice/server/failure"
)

// TestSlowRequests checks that few requests may be on their way for long, that the oldest
// ones are given up for new ones, and all in time, and that what comes soon does not count.
func TestSlowRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReceives()
		never := make(chan struct{})
		begin := func(n int) (ended chan error) {
			ended = make(chan error, n)
			for range n {
				go func() { ended <- r.receive("", func() error { <-never; return nil }) }()
			}
			return ended
		}
		first := begin(r.most)
		time.Sleep(r.soon + time.Second)
		second := begin(r.most / 2)
		for range 10_000 {
			if err := r.receive("", func() error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if len(first)+len(second) != 0 {
			t.Error("requests are given up for those that come soon")
		}
		time.Sleep(r.soon + time.Second)
		if len(first) != r.most/2 || len(second) != 0 || reason(<-first) != failure.Overloaded {
			t.Errorf("%d of the first ones and %d of the second are given up", len(first), len(second))
		}
		time.Sleep(receiveTimeout)
		if len(first) != r.most-1 || len(second) != r.most/2 || reason(<-second) != failure.InvalidRequest {
			t.Errorf("in the end, %d of the first ones and %d of the second are given up", len(first), len(second))
		}
		close(never)
	})
}

// TestSlowRequestsOfOthers checks that who has many requests on their way, or many watches,
// takes the place of nobody else.
func TestSlowRequestsOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, r := range []*receives{newReceives(), newOpenReceives()} {
			never := make(chan struct{})
			begin := func(host string, n int) (ended chan error) {
				ended = make(chan error, n)
				for range n {
					go func() { ended <- r.receive(host, func() error { <-never; return nil }) }()
				}
				time.Sleep(r.soon + time.Millisecond)
				synctest.Wait()
				return ended
			}
			before := begin("192.0.2.1", 2)
			many := begin("192.0.2.2", 1000)
			after := begin("192.0.2.3", 2)
			if len(before)+len(after) != 0 || len(many) != 1000-r.most+4 {
				t.Errorf("given up are %d, %d of the many, and %d", len(before), len(many), len(after))
			}
			close(never)
			synctest.Wait()
		}
	})
	h := &watchedHealth{of: map[string]int{}, ofHost: map[string]int{}}
	for i := range maxWatches {
		h.add(fmt.Sprint("192.0.2.2:", i), "192.0.2.2")
	}
	if !h.add("192.0.2.1:1", "192.0.2.1") {
		t.Error("the watches of one host have taken the places of all")
	}
	h.remove("192.0.2.1:1", "192.0.2.1")
	for i := range maxWatchesOfHost {
		h.remove(fmt.Sprint("192.0.2.2:", i), "192.0.2.2")
	}
	if h.all != 0 || len(h.of)+len(h.ofHost) != 0 {
		t.Errorf("in the end there are %d, of %d connections and %d hosts", h.all, len(h.of), len(h.ofHost))
	}
}

// TestRequestsTogether checks that of thousands that come together, and are on their way for
// no longer than that takes, none is given up: also of those for health, which many ask for
// when a server is there again.
func TestRequestsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, r := range []*receives{newReceives(), newOpenReceives()} {
			ended := make(chan error, 5000)
			for range cap(ended) {
				go func() { ended <- r.receive("", func() error { time.Sleep(100 * time.Millisecond); return nil }) }()
			}
			for range cap(ended) {
				if err := <-ended; err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// TestLateRequestIsThere checks that a request which has arrived is taken, however late it is
// looked for.
func TestLateRequestIsThere(t *testing.T) {
	for range 100 {
		received, late, givenUp := make(chan error, 1), make(chan time.Time, 1), make(chan struct{})
		received <- nil
		late <- time.Time{}
		close(givenUp)
		if _, ok := firstOf(received, late, givenUp); !ok {
			t.Fatal("a request that is there is given up")
		}
	}
}

// TestHosts checks which connections are one host's.
func TestHosts(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1:5":              "192.0.2.1",
		"[::ffff:192.0.2.1]:5":     "192.0.2.1",
		"[2001:db8:1:2:3:4:5:6]:5": "2001:db8:1:2::",
		"[fe80::1%eth0]:5":         "fe80::",
		"@":                        "@",
	} {
		ctx := peer.NewContext(t.Context(), &peer.Peer{Addr: namedAddr(addr)})
		if connection, host := peerOf(ctx); connection != addr || host != want {
			t.Errorf("%s: got %s and %s", addr, connection, host)
		}
	}
}

type namedAddr string

func (namedAddr) Network() string  { return "" }
func (a namedAddr) String() string { return string(a) }
