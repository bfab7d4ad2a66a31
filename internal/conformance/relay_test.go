package conformance

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// relay stands between a bridge and its server, and sees which calls are reset: whatever a
// client that has left believes, the call may go on.
type relay struct {
	net.Listener
	server string

	mu    sync.Mutex // guards all below
	calls map[string]*watched
}

// watched is a call, by the name of its case.
type watched struct{ opened, reset event }

// event is what happens once. It is for many goroutines at once.
type event struct {
	once     sync.Once
	happened chan struct{}
}

func (e *event) happen() { e.once.Do(func() { close(e.happened) }) }

// wait waits for the event, or returns an error.
func (e *event) wait(otherwise error) error {
	select {
	case <-e.happened:
		return nil
	case <-time.After(patience):
		return otherwise
	}
}

// patience is how long a relay waits for what must come.
const patience = 5 * time.Second

var (
	errNotOpened = errors.New("the bridge does not call the server")
	errNotReset  = errors.New("the bridge does not reset the call that its client has left")
)

// newRelay returns a relay that runs until it is closed.
func newRelay(server string) (*relay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{Listener: l, server: server, calls: map[string]*watched{}}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go r.join(conn)
		}
	}()
	return r, nil
}

// call returns the call of a case, which may not have begun.
func (r *relay) call(name string) *watched {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calls[name] == nil {
		r.calls[name] = &watched{event{happened: make(chan struct{})}, event{happened: make(chan struct{})}}
	}
	return r.calls[name]
}

// join joins a connection of the bridge's with one to the server.
func (r *relay) join(bridge net.Conn) {
	defer bridge.Close()
	server, err := net.Dial("tcp", r.server)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(bridge, server)
		_ = bridge.Close()
	}()
	seen, see := io.Pipe()
	go func() {
		r.watch(seen)
		_, _ = io.Copy(io.Discard, seen)
	}()
	_, _ = io.Copy(io.MultiWriter(server, see), bridge)
	_ = see.Close()
}

// watch reads what a bridge sends.
func (r *relay) watch(from io.Reader) {
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(from, preface); err != nil || !bytes.Equal(preface, []byte(http2.ClientPreface)) {
		return
	}
	framer := http2.NewFramer(io.Discard, from)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	framer.SetMaxReadFrameSize(1<<24 - 1)
	streams := map[uint32]*watched{}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			for _, field := range f.RegularFields() {
				if field.Name == "x-test-case-name" {
					streams[f.StreamID] = r.call(field.Value)
					streams[f.StreamID].opened.happen()
				}
			}
		case *http2.RSTStreamFrame:
			if call := streams[f.StreamID]; call != nil && f.ErrCode == http2.ErrCodeCancel {
				call.reset.happen()
			}
		}
	}
}
