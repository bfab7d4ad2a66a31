package bridge_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/sluice-sse/sluice/bridge"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server"
)

// wire is an event as a server has it that has encoded it already.
type wire struct {
	data []byte
	more bool
}

func (w *wire) MarshalBinary() ([]byte, error) { return w.data, nil }
func (w *wire) More() bool                     { return w.more }

// sink is a client that takes everything.
type sink struct{ header http.Header }

func (s sink) Header() http.Header            { return s.header }
func (sink) WriteHeader(int)                  {}
func (sink) Write(p []byte) (int, error)      { return len(p), nil }
func (sink) Flush()                           {}
func (sink) SetWriteDeadline(time.Time) error { return nil }

// BenchmarkDelta is one delta of a long stream, from the connection to the server to
// a response that takes it at once: alone, and one of many that have gathered.
func BenchmarkDelta(b *testing.B) {
	for _, kind := range kinds {
		for _, gathered := range []int{1, 50} {
			b.Run(fmt.Sprintf("%s/gathered=%d", kind, gathered), func(b *testing.B) {
				conn := &server.InProcess{}
				completionv1.RegisterCompletionServiceServer(conn, &service{play: func(s eventStream) error {
					if err := named(s, "cmpl_01JV3ZK8Q2W4X6Y8Z0A1B2C3D4"); err != nil {
						return err
					}
					event := &wire{data: []byte("\x08\x07\x1a\x08\x0a\x06 world")}
					b.ReportAllocs()
					b.ResetTimer()
					for i := range b.N {
						event.more = (i+1)%gathered != 0
						if err := s.SendMsg(event); err != nil {
							return err
						}
					}
					b.StopTimer()
					return finished(s, 8)
				}})
				var any grpc.ClientConnInterface = conn
				if kind == "received" {
					any = struct{ grpc.ClientConnInterface }{conn}
				}
				bridge, err := bridge.New(any, bridge.Config{})
				if err != nil {
					b.Fatal(err)
				}
				bridge.ServeHTTP(sink{http.Header{}}, post(b.Context()))
			})
		}
	}
}
