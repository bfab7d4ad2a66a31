package inproc

import (
	"io"
	"testing"

	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// The handler of a stream that is pushed gets all of the request, and it is not copied.
func TestStreamMovesRequest(t *testing.T) {
	given := &completionv1.CompletionRequest{
		Model: "m", Prompt: proto.String("Hi"), Stop: []string{"a"}, LogitBias: map[string]float64{"1": 2},
		Messages: []*completionv1.Message{{Role: "user", Parts: []*completionv1.Part{{Kind: &completionv1.Part_Text{Text: "a"}}}}},
	}
	given.ProtoReflect().SetUnknown([]byte{0xf8, 0x3f, 1})
	want, first := proto.CloneOf(given), given.Messages[0]
	var got completionv1.CompletionRequest
	s := &serverStream{request: given}
	if err := s.RecvMsg(&got); err != nil || !proto.Equal(&got, want) || got.Messages[0] != first {
		t.Errorf("got %v, %v, want %v", &got, err, want)
	}
	if err := s.RecvMsg(&got); err != io.EOF {
		t.Errorf("then %v", err)
	}
}
