package bridge_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/sluice-sse/sluice/bridge"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/inproc"
	"github.com/sluice-sse/sluice/internal/inproc/inproctest"
)

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
				conn := &inproc.Conn{}
				conn.RegisterService(&grpc.ServiceDesc{ServiceName: "completion.v1.CompletionService", Streams: []grpc.StreamDesc{{
					StreamName: "StreamCompletion",
					Handler: func(_ any, s grpc.ServerStream) error {
						if err := s.SendHeader(metadata.Pairs("completion-id", "cmpl_01JV3ZK8Q2W4X6Y8Z0A1B2C3D4")); err != nil {
							return err
						}
						batch := make([][]byte, gathered)
						for i := range batch {
							batch[i] = []byte("\x08\x07\x1a\x08\x0a\x06 world")
						}
						sender := s.(interface{ SendBatch([][]byte) error })
						b.ReportAllocs()
						b.ResetTimer()
						for i := 0; i < b.N; i += gathered {
							if err := sender.SendBatch(batch); err != nil {
								return err
							}
						}
						b.StopTimer()
						return s.SendMsg(&completionv1.CompletionEvent{Sequence: 8, Event: &completionv1.CompletionEvent_Finished{Finished: &completionv1.Finished{FinishReason: completionv1.Finished_STOP}}})
					},
				}}}, nil)
				var any grpc.ClientConnInterface = conn
				if kind == "received" {
					any = received{inproctest.Client{Conn: conn}}
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
