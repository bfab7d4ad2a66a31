package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/failure"
)

var update = flag.Bool("update", false, "write testdata/*.want")

// transcript is a response of an upstream, in testdata/NAME.http: comments (#), a status
// line, header fields, an empty line, and the body as it is. Header fields that begin with
// X-Test are for the test.
type transcript struct {
	status int
	header http.Header
	body   []byte
	legacy bool // X-Test-Request: prompt
	cut    bool // X-Test-Cut: true — the connection breaks off after the body
}

func readTranscript(t *testing.T, name string) transcript {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	head, body, ok := bytes.Cut(raw, []byte("\n\n"))
	if !ok {
		t.Fatalf("%s: no empty line after the header", name)
	}
	tr := transcript{header: http.Header{}, body: body}
	for line := range strings.Lines(string(head)) {
		line = strings.TrimSpace(line)
		field, value, isField := strings.Cut(line, ": ")
		switch {
		case strings.HasPrefix(line, "#"):
		case tr.status == 0:
			tr.status, err = strconv.Atoi(strings.TrimPrefix(line, "HTTP/1.1 "))
		case field == "X-Test-Request":
			tr.legacy = value == "prompt"
		case field == "X-Test-Cut":
			tr.cut = value == "true"
		case isField:
			tr.header.Set(field, value)
		default:
			err = fmt.Errorf("%q is no field", line)
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	return tr
}

// handler responds with the transcript, in pieces of the sizes that next returns.
func (tr transcript) handler(next func() int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		for field, values := range tr.header {
			w.Header()[field] = values
		}
		w.WriteHeader(tr.status)
		flusher := w.(http.Flusher)
		for rest := tr.body; len(rest) > 0; {
			n := min(next(), len(rest))
			w.Write(rest[:n])
			flusher.Flush()
			rest = rest[n:]
		}
		if tr.cut {
			flusher.Flush()
			panic(http.ErrAbortHandler)
		}
	}
}

func (tr transcript) request() *completionv1.CompletionRequest {
	if tr.legacy {
		return &completionv1.CompletionRequest{Model: "m", Prompt: proto.String("Hi")}
	}
	return chat()
}

// oneByteBodies has bodies that are read byte by byte: pieces that were flushed one by one
// may still arrive together.
type oneByteBodies struct{ http.RoundTripper }

func (o oneByteBodies) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := o.RoundTripper.RoundTrip(req)
	if err == nil {
		res.Body = struct {
			io.Reader
			io.Closer
		}{iotest.OneByteReader(res.Body), res.Body}
	}
	return res, err
}

// TestTranscripts compares what comes of each transcript, and how it ends, with
// testdata/NAME.want, however the body is cut into pieces.
func TestTranscripts(t *testing.T) {
	names, err := filepath.Glob("testdata/*.http")
	if err != nil || len(names) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".http"), func(t *testing.T) {
			t.Parallel()
			tr := readTranscript(t, name)
			whole := func() int { return len(tr.body) }
			golden := strings.TrimSuffix(name, ".http") + ".want"
			if *update {
				got := outcome(serve(t, tr.handler(whole)), tr.request())
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			seed := fnv.New64()
			seed.Write([]byte(name))
			random := rand.New(rand.NewPCG(seed.Sum64(), 0))
			for _, delivery := range []struct {
				name string
				next func() int
				wrap func(http.RoundTripper) http.RoundTripper
			}{
				{name: "whole", next: whole},
				{name: "flushed byte by byte", next: func() int { return 1 }},
				{name: "in random pieces", next: func() int { return 1 + random.IntN(60) }},
				{name: "read byte by byte", next: whole, wrap: func(rt http.RoundTripper) http.RoundTripper { return oneByteBodies{rt} }},
			} {
				srv := httptest.NewServer(tr.handler(delivery.next))
				e := newEngine(t, Config{BaseURL: srv.URL + "/v1", Key: key})
				if delivery.wrap != nil {
					e.transport = delivery.wrap(e.transport)
				}
				got := outcome(e, tr.request())
				if got != string(want) {
					t.Errorf("%s:\n--- got\n%s--- want\n%s", delivery.name, got, want)
				}
				if strings.Contains(got, "secret") {
					t.Errorf("%s: the key is in\n%s", delivery.name, got)
				}
				srv.Close()
			}
		})
	}
}

// outcome generates a completion and describes it: a line for each chunk, and the end
// with all that callers and the log get.
func outcome(e *Engine, req *completionv1.CompletionRequest) string {
	var out strings.Builder
	finished := false
	err := generate(context.Background(), e, req, func(c *engine.Chunk) error {
		out.WriteString("chunk")
		if c.Model != "" {
			fmt.Fprintf(&out, " model=%s", c.Model)
		}
		if c.Delta != nil {
			fmt.Fprintf(&out, " delta=%s", compact(c.Delta))
		}
		if c.FinishReason != completionv1.Finished_FINISH_REASON_UNSPECIFIED {
			finished = true
			fmt.Fprintf(&out, " finish=%s", c.FinishReason)
		}
		if c.Usage != nil {
			fmt.Fprintf(&out, " usage=%s", compact(c.Usage))
		}
		out.WriteString("\n")
		return nil
	})
	switch {
	case err != nil:
		writeFailure(&out, err)
	case finished:
		out.WriteString("end: complete\n")
	default:
		out.WriteString("end: no finish reason\n")
	}
	return ownIDs.ReplaceAllString(out.String(), "call_*")
}

// ownIDs matches the ids that we give to tool calls.
var ownIDs = regexp.MustCompile(`call_[A-Z2-7]{26,}`)

func writeFailure(out *strings.Builder, err error) {
	var failed *failure.Error
	if !errors.As(err, &failed) {
		fmt.Fprintf(out, "end: %v\n", err)
		return
	}
	fmt.Fprintf(out, "end: %s: %s\n", failed.Reason, failed.Message)
	for _, detail := range status.Convert(failed).Details() {
		switch d := detail.(type) {
		case *errdetails.RetryInfo:
			fmt.Fprintf(out, "retry after: %v\n", d.GetRetryDelay().AsDuration())
		case *errdetails.BadRequest:
			fmt.Fprintf(out, "field: %s\n", d.GetFieldViolations()[0].GetField())
		}
	}
	if cause := failed.Unwrap(); cause != nil {
		fmt.Fprintf(out, "cause: %v\n", cause)
	}
}

// compact is protojson without its random spaces.
func compact(m proto.Message) string {
	b, err := protojson.Marshal(m)
	var out bytes.Buffer
	if err != nil || json.Compact(&out, b) != nil {
		return fmt.Sprintf("not JSON: %v", err)
	}
	return out.String()
}

// TestLongLine checks that a chunk longer than any buffer arrives, and that one longer than
// the limit is an error.
func TestLongLine(t *testing.T) {
	for _, tc := range []struct {
		name string
		size int
		want string
	}{
		{"over 64 KiB", 70_000, "end: complete\n"},
		{"over 1 MiB", 3 << 20, "end: complete\n"},
		{"over the limit", maxEvent, "end: UPSTREAM_UNAVAILABLE: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := strings.Repeat("0123456789abcdef", tc.size/16)
			e := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprintf(w, "data: {\"choices\":[{\"delta\":{\"content\":%q},\"finish_reason\":\"stop\"}]}\n\n", text)
			})
			got := outcome(e, chat())
			_, end, _ := strings.Cut(got, "\n")
			if !strings.HasPrefix(tc.want, "end: complete") {
				end = got
			} else if !strings.Contains(got, text) {
				t.Error("the text is not all there")
			}
			if !strings.HasPrefix(end, tc.want) {
				t.Errorf("got %.200q, want %q", end, tc.want)
			}
		})
	}
}
