package server

import (
	"slices"
	"sync"
	"time"

	"github.com/sluice-sse/sluice/server/failure"
)

// receives bounds how many requests are on their way for long: each may be as large as any,
// and never come to its end. When there are too many, the oldest one is given up of those
// of the host that has most: so nobody who begins many has those of others given up.
type receives struct {
	soon time.Duration // a request that arrives within that does not count
	most int           // of the others

	mu    sync.Mutex  // guards the one below
	calls []*lateCall // those others, the oldest first
}

type lateCall struct {
	host    string
	givenUp chan struct{} // closed when it is
}

// receiveTimeout is how long a request may take to arrive, as over HTTP.
const receiveTimeout = 30 * time.Second

// newReceives returns the bounds for requests of callers who are known.
func newReceives() *receives { return &receives{soon: 2 * time.Second, most: 32} }

// newOpenReceives returns those for requests that need no credentials, as those for health
// do not. Anybody can send as much of them as the network takes until they count: so that is
// sooner, but not at once, as thousands that are whole may come together.
func newOpenReceives() *receives { return &receives{soon: 250 * time.Millisecond, most: 16} }

// receive calls one that receives a request from a host, and returns what that does, unless
// the request is given up: then the end of the call, which is to follow, ends it.
func (r *receives) receive(host string, receive func() error) error {
	received := make(chan error, 1)
	go func() { received <- receive() }()
	soon := time.NewTimer(r.soon)
	defer soon.Stop()
	if err, ok := firstOf(received, soon.C, nil); ok {
		return err
	}
	call := r.begin(host)
	defer r.end(call)
	late := time.NewTimer(receiveTimeout - r.soon)
	defer late.Stop()
	if err, ok := firstOf(received, late.C, call.givenUp); ok {
		return err
	}
	select {
	case <-call.givenUp:
		return failure.New(failure.Overloaded, "the request took too long to arrive, and others wait: try again")
	default:
		return failure.Invalid("body", "the request did not arrive within %v", receiveTimeout)
	}
}

// firstOf waits for a request, until it is late or given up. One that is there is good, even
// if it is late, too: in a process that was held up, many are.
func firstOf(received <-chan error, late <-chan time.Time, givenUp <-chan struct{}) (err error, ok bool) {
	select {
	case err := <-received:
		return err, true
	case <-late:
	case <-givenUp:
	}
	select {
	case err := <-received:
		return err, true
	default:
		return nil, false
	}
}

func (r *receives) begin(host string) *lateCall {
	call := &lateCall{host, make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, call)
	if len(r.calls) > r.most {
		i := r.tooMany()
		close(r.calls[i].givenUp)
		r.calls = slices.Delete(r.calls, i, i+1)
	}
	return call
}

// tooMany returns which call is to be given up. It is called with the lock held.
func (r *receives) tooMany() int {
	of := map[string]int{}
	for _, c := range r.calls {
		of[c.host]++
	}
	oldest := 0
	for i, c := range r.calls {
		if of[c.host] > of[r.calls[oldest].host] {
			oldest = i
		}
	}
	return oldest
}

// end takes a call out, unless it is given up.
func (r *receives) end(call *lateCall) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.Index(r.calls, call); i >= 0 {
		r.calls = slices.Delete(r.calls, i, i+1)
	}
}
