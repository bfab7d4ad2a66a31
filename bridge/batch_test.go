package bridge_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/bridge"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// sendBatch sends events at once, as a server in this process can.
func sendBatch(s eventStream, events ...*completionv1.CompletionEvent) error {
	var batch [][]byte
	for _, e := range events {
		b, err := proto.Marshal(e)
		if err != nil {
			return err
		}
		batch = append(batch, b)
	}
	wrapped := s.(*grpc.GenericServerStream[completionv1.CompletionRequest, completionv1.CompletionEvent])
	return wrapped.ServerStream.(interface{ SendBatch([][]byte) error }).SendBatch(batch)
}

// Events that are there at once are written at once, but a very large batch in pieces:
// the client need not take it all within one write timeout.
func TestBatchIsWrittenInPieces(t *testing.T) {
	for _, tt := range []struct {
		events, size, writes int
	}{
		{1, 1 << 10, 1}, {60, 1 << 10, 1}, {64, 1 << 10, 2}, {1000, 1 << 10, 17}, {10, 100 << 10, 10},
	} {
		t.Run(fmt.Sprintf("%d of %d bytes", tt.events, tt.size), func(t *testing.T) {
			b := newBridge(t, func(s eventStream) error {
				if err := named(s, "cmpl_x"); err != nil {
					return err
				}
				var events []*completionv1.CompletionEvent
				for i := range tt.events {
					events = append(events, &completionv1.CompletionEvent{Sequence: int32(i + 1), Event: &completionv1.CompletionEvent_Delta{
						Delta: &completionv1.Delta{Text: strings.Repeat("x", tt.size)},
					}})
				}
				if err := sendBatch(s, events...); err != nil {
					return err
				}
				return finished(s, int32(tt.events+1))
			}, bridge.Config{})
			r := newRecorder()
			exchange(t, b, r, post(t.Context()))
			for i, w := range r.writes {
				if len(w) > 64<<10+tt.size+200 {
					t.Errorf("%d bytes in write %d", len(w), i)
				}
			}
			all := strings.Join(r.writes, "")
			if len(r.writes) != tt.writes+1 || strings.Count(all, "event: delta\n") != tt.events || strings.Count(all, "event: finished\n") != 1 {
				t.Errorf("%d deltas in %d writes, the end included; want %d", strings.Count(all, "event: delta\n"), len(r.writes), tt.writes+1)
			}
		})
	}
}
