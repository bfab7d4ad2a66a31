package server

import (
	"sync"
	"time"

	"github.com/sluice-sse/sluice/server/failure"
)

// receives bounds how many requests are on their way for long: each may be as large as any,
// and never come to its end. When there are too many, the oldest one is given up.
type receives struct {
	soon time.Duration // a request that arrives within that does not count
	most int           // of the others

	mu    sync.Mutex      // guards the one below
	calls []chan struct{} // of those, the oldest first; closed when one is given up
}

// receiveTimeout is how long a request may take to arrive, as over HTTP.
const receiveTimeout = 30 * time.Second

// newReceives returns the bounds for requests of callers who are known.
func newReceives() *receives { return &receives{soon: 2 * time.Second, most: 32} }

// newOpenReceives returns those for requests that need no credentials, as those for health
// do not. One that is sent as a whole is received before so many others have begun.
func newOpenReceives() *receives { return &receives{most: 16} }

// receive calls one that receives a request, and returns what that does, unless the request
// is given up: then the end of the call, which is to follow, ends it.
func (r *receives) receive(receive func() error) error {
	received := make(chan error, 1)
	go func() { received <- receive() }()
	if r.soon > 0 {
		soon := time.NewTimer(r.soon)
		defer soon.Stop()
		select {
		case err := <-received:
			return err
		case <-soon.C:
		}
	}
	givenUp := r.begin()
	defer r.end(givenUp)
	late := time.NewTimer(receiveTimeout - r.soon)
	defer late.Stop()
	select {
	case err := <-received:
		return err
	case <-givenUp:
		return failure.New(failure.Overloaded, "the request took too long to arrive, and others wait: try again")
	case <-late.C:
		return failure.Invalid("body", "the request did not arrive within %v", receiveTimeout)
	}
}

func (r *receives) begin() chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.calls) == r.most {
		close(r.calls[0])
		r.calls = append(r.calls[:0], r.calls[1:]...)
	}
	givenUp := make(chan struct{})
	r.calls = append(r.calls, givenUp)
	return givenUp
}

// end takes a call out, unless it is given up.
func (r *receives) end(call chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, c := range r.calls {
		if c == call {
			r.calls = append(r.calls[:i], r.calls[i+1:]...)
			return
		}
	}
}
