package bridge

import (
	"errors"

	"google.golang.org/grpc/metadata"

	"github.com/sluice-sse/sluice/bridge/native"
)

// encoder makes blocks of a stream's events and knows what came last.
type encoder struct {
	bridge *Bridge

	id       string // the completion's, once the server has named it
	last     int32  // the sequence of the last event
	begun    bool   // there was an event
	drained  bool   // a drain's retry was sent
	terminal bool   // the last event was the terminal one
}

var errNoID = errors.New("the server did not name the completion")

// header takes the completion's name from the server's header.
func (e *encoder) header(md metadata.MD) {
	// The id goes into headers and blocks as it is: not one that breaks them.
	if id := completionID(md); validID(id) {
		e.id = id
	}
}

func validID(id string) bool {
	_, _, err := native.ParseID(native.FormatID(id, 0))
	return err == nil
}

// append appends the block of an event, in protobuf wire form. With an error,
// blocks is as it was, and the stream cannot go on.
func (e *encoder) append(blocks, wire []byte) ([]byte, error) {
	if e.id == "" {
		return blocks, errNoID
	}
	retry := firstRetry
	if e.begun {
		retry = 0
	}
	if !e.drained && e.bridge.draining.Load() {
		retry, e.drained = drainRetry(), true
	}
	blocks, event, err := native.AppendEvent(blocks, e.id, wire, retry)
	if err != nil {
		return blocks, err
	}
	e.begun, e.last, e.terminal = true, event.Sequence, event.Terminal
	return blocks, nil
}

// appendError appends the block of the failure in which the completion ended.
func (e *encoder) appendError(blocks []byte, body []byte) []byte {
	retry := firstRetry
	if e.begun {
		retry = 0
	}
	return native.AppendError(blocks, e.id, e.last+1, body, retry)
}

// maxGathered is how many bytes of blocks may gather before they have to be
// written.
const maxGathered = 64 << 10
