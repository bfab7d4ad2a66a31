package openai

import (
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/failure"
)

// TestContentEncoding checks that a content encoding that we did not ask for is decoded
// without delay, or named in the log.
func TestContentEncoding(t *testing.T) {
	const finish = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"
	words := strings.Repeat("x", 10_000)
	for _, tc := range []struct {
		name     string
		encoding string
		zipped   bool
		status   int
		want     string // how it ends, and after that what the log says
	}{
		{"gzip", "gzip", true, 200, "end: complete\n"},
		{"gzip that is not said", "", true, 200, "end: complete\n"},
		{"gzip that is none", "x-gzip", false, 200, "end: complete\n"},
		{"identity", "identity", false, 200, "end: complete\n"},
		{"brotli", "br", false, 200, "end: UPSTREAM_UNAVAILABLE: the upstream did not answer\nretry after: 1s\ncause: an answer in the content encoding \"br\", which was not asked for\n"},
		{"a refusal in gzip", "gzip", true, 429, "end: UPSTREAM_RATE_LIMITED: the upstream takes no more requests for now\nretry after: 1s\ncause: the upstream answered 429: slow down (type \"\", code \"\")\n"},
		{"a refusal in brotli", "br", false, 429, "end: UPSTREAM_RATE_LIMITED: the upstream takes no more requests for now\nretry after: 1s\ncause: the upstream answered 429: slow down (type \"\", code \"\")\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			read := make(chan struct{})
			e := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if tc.encoding != "" {
					w.Header().Set("Content-Encoding", tc.encoding)
				}
				w.WriteHeader(tc.status)
				out, flush := io.Writer(w), func() {}
				if tc.zipped {
					z := gzip.NewWriter(w)
					defer z.Close()
					out, flush = z, func() { z.Flush() }
				}
				if tc.status != 200 {
					io.WriteString(out, `{"error":{"message":"slow down"}}`)
					return
				}
				io.WriteString(out, "data: {\"choices\":[{\"delta\":{\"content\":\""+words+"\"}}]}\n\n")
				flush()
				w.(http.Flusher).Flush()
				if strings.HasSuffix(tc.want, "complete\n") {
					within(t, read, "the first chunk")
				}
				io.WriteString(out, finish)
			})
			got, first := "", true
			err := generate(t.Context(), e, chat(), func(c *engine.Chunk) error {
				if first {
					close(read)
				}
				first = false
				got += c.Delta.GetText()
				return nil
			})
			var out strings.Builder
			if err != nil {
				writeFailure(&out, err)
			} else {
				out.WriteString("end: complete\n")
			}
			if out.String() != tc.want || err == nil && got != words {
				t.Errorf("got %d bytes and\n%s\nwant\n%s", len(got), out.String(), tc.want)
			}
		})
	}
}

// TestBrokenGzip checks that a compressed stream that breaks off was cut, and that one which
// never ends is not read without a limit.
func TestBrokenGzip(t *testing.T) {
	for name, tc := range map[string]struct {
		write func(z *gzip.Writer, w http.ResponseWriter)
		want  failure.Reason
	}{
		"cut": {func(z *gzip.Writer, w http.ResponseWriter) {
			io.WriteString(z, "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n")
			z.Flush()
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, failure.UpstreamTruncated},
		"an event of 1 GiB": {func(z *gzip.Writer, _ http.ResponseWriter) {
			block := make([]byte, 1<<20)
			for range 1 << 10 {
				if _, err := z.Write(block); err != nil {
					return
				}
			}
		}, failure.UpstreamUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			e := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Encoding", "gzip")
				z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
				tc.write(z, w)
			})
			var failed *failure.Error
			if err := generate(t.Context(), e, chat(), ignore); !errors.As(err, &failed) || failed.Reason != tc.want {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}
