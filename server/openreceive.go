package server

import (
	"sync"

	"github.com/sluice-sse/sluice/server/failure"
)

// maxOpenReceives is how many requests of callers that need no credentials are received at
// the same time.
const maxOpenReceives = 16

// openReceives bounds what strangers have this hold: requests that need no credentials, as
// those for health do not, may be as large as any, and never come to their end. When there
// are too many, the oldest one is given up: one that is sent as a whole is received before
// so many others have begun. The zero value is ready to use.
type openReceives struct {
	mu    sync.Mutex      // guards the one below
	calls []chan struct{} // the oldest first; closed when it is given up
}

// receive calls one that receives a request, and returns what that does, unless the request
// is given up: then the end of the call, which is to follow, ends it.
func (o *openReceives) receive(receive func() error) error {
	givenUp := o.begin()
	defer o.end(givenUp)
	received := make(chan error, 1)
	go func() { received <- receive() }()
	select {
	case err := <-received:
		return err
	case <-givenUp:
		return failure.New(failure.Overloaded, "the request took too long to arrive: try again")
	}
}

func (o *openReceives) begin() chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.calls) == maxOpenReceives {
		close(o.calls[0])
		o.calls = append(o.calls[:0], o.calls[1:]...)
	}
	givenUp := make(chan struct{})
	o.calls = append(o.calls, givenUp)
	return givenUp
}

// end takes a call out, unless it is given up.
func (o *openReceives) end(call chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, c := range o.calls {
		if c == call {
			o.calls = append(o.calls[:i], o.calls[i+1:]...)
			return
		}
	}
}
