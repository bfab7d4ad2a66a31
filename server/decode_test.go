package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	gzipencoding "google.golang.org/grpc/encoding/gzip" // as in a program with a bridge
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/failure"
)

// field is a field of wire type 2.
func field(number protowire.Number, content string) string {
	return string(protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), content))
}

// zipped is what gzip makes of n times a string.
func zipped(s string, n int) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	for range n {
		_, _ = w.Write([]byte(s))
	}
	_ = w.Close()
	return b.String()
}

// badWire are requests that are refused before anything is made of them.
var badWire = []struct {
	name, wire, says string
}{
	{"empty messages", strings.Repeat(field(3, ""), 1<<20), "32768 messages"},
	{"messages with a role", strings.Repeat(field(3, field(1, "user")), 100_000), "32768 messages"},
	{"parts", field(3, strings.Repeat(field(3, ""), 100_000)), "32768 messages"},
	{"tool calls", field(3, strings.Repeat(field(4, ""), 100_000)), "32768 messages"},
	{"stops", strings.Repeat(field(7, ""), 100_000), "32768 messages"},
	{"metadata", strings.Repeat(field(23, ""), 100_000), "32768 messages"},
	{"a list in extra", field(26, field(1, field(1, "a")+field(2, field(6, strings.Repeat(field(1, ""), 100_000))))), "32768 messages"},
	{"members of extra", field(26, strings.Repeat(field(1, field(1, "a")), 100_000)), "32768 messages"},
	{"one level of many", nest(field(1, ""), 401), "nested too deep"},
	{"a long prompt", field(2, strings.Repeat("x", 3<<20)), "2097152 bytes"},
	{"half a tag", "\xff", "in protobuf"},
	{"half a field", "\x0a\x05abc", "in protobuf"},
	{"half a message within", field(3, "\x0a\x05abc"), "in protobuf"},
	{"not UTF-8", field(2, "caf\xe9"), "in protobuf"},
	{"many groups", strings.Repeat("\x0b", 20_000), "in protobuf"},
	{"half of what gzip makes", zipped(field(2, "Hi"), 1)[:20], "gzip"},
	{"nearly gzip", "\x1f\x8bHello", "gzip"},
	{"a bomb", zipped(strings.Repeat("\x00", 1<<20), 64), "2097152 bytes"},
	{"a bomb of messages", zipped(strings.Repeat(field(3, ""), 1<<18), 2), "32768 messages"},
}

// nest puts a list into a list, so often.
func nest(s string, n int) string {
	for range n {
		s = field(6, field(1, s))
	}
	return field(12, s) // tool_choice
}

// Of a request that is refused, nothing is made: it takes no more memory than its
// bytes do, and what grpc-go makes of those.
func TestBadWire(t *testing.T) {
	f := newFixture(t, silent(), func(c *Config) { c.MaxBody = 1 << 20 })
	conn, _ := f.listen(t, time.Minute)
	client := completionv1.NewCompletionServiceClient(conn)
	for _, tt := range badWire {
		t.Run(tt.name, func(t *testing.T) {
			codec := grpc.ForceCodec(sent(tt.wire))
			_, err := client.CreateCompletion(t.Context(), &completionv1.CompletionRequest{}, codec)
			s, err2 := client.StreamCompletion(t.Context(), &completionv1.CompletionRequest{}, codec)
			if err2 != nil {
				t.Fatal(err2)
			}
			_, err2 = s.Recv()
			for _, err := range []error{err, err2} {
				if reason(err) != failure.InvalidRequest || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("got %v, want an INVALID_REQUEST that says %q", err, tt.says)
				}
			}
		})
	}
}

// Decoding a request that is refused allocates a few times its bytes, whatever it
// would have become: a hundred times as much.
func TestRefusingIsCheap(t *testing.T) {
	for _, tt := range badWire {
		if len(tt.wire) < 100_000 || strings.Contains(tt.name, "bomb") {
			continue
		}
		d := newDecoder(32<<20, freely)
		d.parts = minParts
		data := mem.BufferSlice{mem.SliceBuffer(tt.wire)}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_ = d.decode(t.Context(), &completionv1.CompletionRequest{}, func(m any) error { return newCodec().Unmarshal(data, m) })
		runtime.ReadMemStats(&after)
		if factor := float64(after.TotalAlloc-before.TotalAlloc) / float64(len(tt.wire)); factor > 4 {
			t.Errorf("%s: allocated %.1f times the bytes", tt.name, factor)
		}
	}
}

func freely(context.Context, int) (func(), error) { return func() {}, nil }

// sent is a client's codec that sends itself, whatever the message.
type sent string

func (s sent) Marshal(any) ([]byte, error) { return []byte(s), nil }
func (s sent) Unmarshal([]byte, any) error { return errors.New("no answer was expected") }
func (s sent) Name() string                { return "proto" }

// Clients may compress what they send, each method's requests. Events come as they are:
// they are too small to be worth it.
func TestGzip(t *testing.T) {
	f := newFixture(t, script(func(_ context.Context, emit func(...*engine.Chunk) error) error {
		return emit(begun, text("a"), stopped)
	}))
	g, _ := NewGRPCServer(f.server, time.Minute)
	plain := dial(t, g)
	var zipped answersZipped
	zipping, err := grpc.NewClient(plain.Target(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.UseCompressor(gzipencoding.Name)), grpc.WithStatsHandler(&zipped))
	if err != nil {
		t.Fatal(err)
	}
	defer zipping.Close()
	client := completionv1.NewCompletionServiceClient(zipping)
	long := prompt(strings.Repeat("All work and no play. ", 1<<16))
	c, err := client.CreateCompletion(t.Context(), long)
	if err != nil || c.GetText() != "a" {
		t.Errorf("create: %v, %v", c, err)
	}
	zipped.Store(0)
	s, err := client.StreamCompletion(t.Context(), long)
	if id := header(t, s, err); count(t, s) != 3 {
		t.Errorf("%s: not three events", id)
	}
	s, err = client.ResumeCompletion(t.Context(), &completionv1.ResumeCompletionRequest{Id: c.GetId()})
	if id := header(t, s, err); count(t, s) != 3 {
		t.Errorf("%s: not three events again", id)
	}
	if n := zipped.Load(); n > 0 {
		t.Errorf("%d events are compressed", n)
	}
	if c, err := client.GetCompletion(t.Context(), &completionv1.GetCompletionRequest{Id: c.GetId()}); err != nil || c.GetText() != "a" {
		t.Errorf("get: %v, %v", c, err)
	}
	if _, err := healthpb.NewHealthClient(zipping).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("health: %v", err)
	}
}

// answersZipped is a stats.Handler of a client that counts which messages come compressed.
type answersZipped struct{ atomic.Int64 }

func (*answersZipped) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*answersZipped) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*answersZipped) HandleConn(context.Context, stats.ConnStats)                       {}

func (z *answersZipped) HandleRPC(_ context.Context, s stats.RPCStats) {
	if in, ok := s.(*stats.InPayload); ok && in.CompressedLength != in.Length {
		z.Add(1)
	}
}

// TestLargeHealthRequests checks that a request for which nobody needs credentials does not
// wait for room among those that are large, nor takes it: it is not to be large.
func TestLargeHealthRequests(t *testing.T) {
	f := newFixture(t, silent(), func(c *Config) {
		c.DecodeLimit = func(ctx context.Context, bytes int) (func(), error) {
			if bytes > maxOpenRequest {
				t.Errorf("%d bytes are decoded", bytes)
			}
			return freely(ctx, bytes)
		}
	})
	conn, _ := f.listen(t, time.Minute)
	for name, wire := range map[string]string{
		"long":   field(1, strings.Repeat("x", 1<<20)),
		"a bomb": zipped(strings.Repeat("\x00", 1<<20), 4),
		"longer": field(1, strings.Repeat("x", 12<<20)),
	} {
		_, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}, grpc.ForceCodec(sent(wire)))
		if reason(err) != failure.InvalidRequest || !strings.Contains(err.Error(), "must have at most 4096 bytes") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for _, compressor := range []string{"identity", "gzip"} {
		long := &healthpb.HealthCheckRequest{Service: strings.Repeat("x", 1000)}
		if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), long, grpc.UseCompressor(compressor)); status.Code(err) != codes.NotFound {
			t.Errorf("%s: got %v", compressor, err)
		}
	}
}

// TestRoomOfCompressed checks for how much room a compressed request waits: for what it
// takes, as what it says at its end, but no less than it has itself, as all of that is read; and
// if that is not true, for as much as it could take.
func TestRoomOfCompressed(t *testing.T) {
	var asked []int
	f := newFixture(t, silent(), func(c *Config) {
		c.MaxBody = 1 << 20
		c.DecodeLimit = func(ctx context.Context, bytes int) (func(), error) {
			asked = append(asked, bytes)
			return freely(ctx, bytes)
		}
	})
	conn, _ := f.listen(t, time.Minute)
	client := completionv1.NewCompletionServiceClient(conn)
	get := field(1, strings.Repeat("x", 10_000)) // of an id that there is not
	few := field(1, "x")
	bomb := zipped(strings.Repeat("\x00", 1<<20), 64)
	twice, nothing := zipped(get, 1)+zipped(few, 1), strings.Repeat(zipped("", 1), 1000)
	for _, tt := range []struct {
		name, wire string
		room       []int
		want       failure.Reason
	}{
		{"as it is", get, []int{len(get)}, failure.CompletionNotFound},
		{"compressed", zipped(get, 1), []int{len(get)}, failure.CompletionNotFound},
		{"in two parts", twice, []int{len(twice), maxRatio * len(twice)}, failure.CompletionNotFound},
		{"nothing, in many parts", nothing, []int{len(nothing)}, failure.CompletionNotFound},
		{"a bomb", bomb, []int{2 << 20}, failure.InvalidRequest},
		{"a bomb that lies", bomb[:len(bomb)-4] + "\x07\x00\x00\x00", []int{len(bomb), 2 << 20}, failure.InvalidRequest},
		{"a begin", zipped("", 1)[:3], []int{3 * maxRatio}, failure.InvalidRequest},
	} {
		asked = nil
		_, err := client.GetCompletion(t.Context(), &completionv1.GetCompletionRequest{}, grpc.ForceCodec(sent(tt.wire)))
		if reason(err) != tt.want || !slices.Equal(asked, tt.room) {
			t.Errorf("%s: waits for %d, not %d; got %v", tt.name, asked, tt.room, err)
		}
	}
}

// Requests wait for room, as long as their caller does.
func TestRoom(t *testing.T) {
	full := make(chan int)
	f := newFixture(t, silent(begun), func(c *Config) {
		c.DecodeLimit = func(ctx context.Context, bytes int) (func(), error) {
			select {
			case full <- bytes:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			return func() { full <- -bytes }, nil
		}
	})
	conn, _ := f.listen(t, time.Minute)
	client := completionv1.NewCompletionServiceClient(conn)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := client.CreateCompletion(ctx, prompt("Hi"))
		ended <- err
	}()
	if entered, left := <-full, <-full; entered != 4 || left != -4 { // {0x12, 2, "Hi"}
		t.Errorf("took %d, gave back %d", entered, left)
	}
	cancel()
	<-ended
	ctx, cancel = context.WithCancel(t.Context())
	go func() {
		_, err := client.CreateCompletion(ctx, prompt("Hi"))
		ended <- err
	}()
	cancel() // while it waits, or before
	if err := <-ended; reason(err) != noReason || !strings.Contains(err.Error(), "anceled") {
		t.Errorf("got %v", err)
	}
}

// FuzzDecode holds the decoder against proto.Unmarshal: within the bounds, the two
// take the same, and make the same of it.
func FuzzDecode(f *testing.F) {
	extra, _ := structpb.NewStruct(map[string]any{"a": []any{1, "b", nil, map[string]any{"c": true}}})
	b, _ := proto.Marshal(&completionv1.CompletionRequest{
		Messages:  []*completionv1.Message{{Role: "user", Parts: []*completionv1.Part{{Kind: &completionv1.Part_Text{Text: "Hi"}}}, Extra: extra}},
		Stop:      []string{"a", ""},
		LogitBias: map[string]float64{"1": 2},
	})
	f.Add(b)
	for _, tt := range badWire {
		f.Add([]byte(tt.wire[:min(len(tt.wire), 1000)]))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		data := mem.BufferSlice{mem.SliceBuffer(b)}
		if isGzip(data) {
			return
		}
		d := newDecoder(4<<20, freely)
		got, want := &completionv1.CompletionRequest{}, &completionv1.CompletionRequest{}
		err := d.decode(t.Context(), got, func(m any) error { return newCodec().Unmarshal(data, m) })
		wantErr := proto.UnmarshalOptions{RecursionLimit: maxNesting}.Unmarshal(b, want)
		if (err == nil) != (wantErr == nil) && !strings.Contains(errors.Join(err).Error(), "too") {
			t.Fatalf("got %v, want %v", err, wantErr)
		}
		if err == nil && !proto.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}
