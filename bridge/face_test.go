package bridge

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-sse/sluice/bridge/http1"
	"github.com/sluice-sse/sluice/internal/inproc"
	"github.com/sluice-sse/sluice/internal/inproc/inproctest"
)

// lines is a face that is as unlike native events as it can be: lines of text, with no
// ids, an end of its own, and errors of another form.
type lines struct{ name, left string }

func (*lines) SetHeader(h http.Header, md metadata.MD) {
	h.Set("Content-Type", "text/x-lines")
	for _, name := range md.Get("name") {
		h.Set("X-Name", name)
	}
}

func (*lines) Heartbeat() string { return "~\n" }

func (e *lines) Begin(md metadata.MD) (id string) {
	e.name = strings.Join(md.Get("name"), "")
	return strings.Join(md.Get("id"), "")
}

func (e *lines) AppendMessage(dst, wire []byte) (out []byte, terminal bool, err error) {
	switch m := string(wire); m {
	case "nothing":
		return dst, false, nil
	case "two":
		return append(dst, "one\ntwo\n"...), false, nil
	case "panic":
		panic("a fault")
	case "long", "longest":
		e.left = m[2:] + "\n"
		return append(dst, m[:2]...), m == "longest", nil
	case "bad":
		return dst, false, errors.New("a bad message")
	default:
		return fmt.Appendf(dst, "%s%s\n", e.name, m), m == "last", nil
	}
}

func (e *lines) AppendEnd(dst []byte, err error, trailer metadata.MD, begun bool) (out []byte, ok bool) {
	switch {
	case trailer.Len() > 0 && trailer.Get("quiet") != nil:
		return dst, true
	case err == io.EOF: // an end, even of nothing
		return fmt.Appendf(dst, "ok %s\n", strings.Join(trailer.Get("sum"), "")), true
	case !begun, status.Code(err) == codes.Aborted:
		return dst, false
	}
	return fmt.Appendf(dst, "error %v\n", status.Code(err)), true
}

func (e *lines) HasMore() bool { return e.left != "" }

// AppendMore takes its time, so that there is a silence within a line.
func (e *lines) AppendMore(dst []byte) []byte {
	time.Sleep(2 * testHeartbeat)
	dst = append(dst, e.left[0])
	e.left = e.left[1:]
	return dst
}

func (*lines) Refuse(w http.ResponseWriter, err error) {
	http.Error(w, "refused "+status.Code(err).String(), http.StatusTeapot)
}

// script is what a server does with a stream. heard waits until the client has had a
// heartbeat.
type script func(s grpc.ServerStream, heard func()) error

func say(s grpc.ServerStream, messages ...string) error {
	var batch [][]byte
	for _, m := range messages {
		batch = append(batch, []byte(m))
	}
	return s.(interface{ SendBatch([][]byte) error }).SendBatch(batch)
}

// resumable sends a message of what can be resumed, and fails.
func resumable(err error) script {
	return func(s grpc.ServerStream, _ func()) error {
		if err := errors.Join(s.SendHeader(metadata.Pairs("id", "x")), say(s, "a")); err != nil {
			return err
		}
		return err
	}
}

// reason is an error of a completion server.
func reason(t *testing.T, reason string) error {
	t.Helper()
	return withInfo(t, &errdetails.ErrorInfo{Domain: "completion.v1", Reason: reason})
}

// ofReader is one that is of a reader's stream alone.
func ofReader(t *testing.T, reason string) error {
	t.Helper()
	return withInfo(t, &errdetails.ErrorInfo{Domain: "completion.v1", Reason: reason, Metadata: map[string]string{"ends": "reader"}})
}

func withInfo(t *testing.T, info *errdetails.ErrorInfo) error {
	t.Helper()
	s, err := status.New(codes.Internal, "it failed").WithDetails(info)
	if err != nil {
		t.Fatal(err)
	}
	return s.Err()
}

// The streaming response knows nothing of a face but the Encoder: any may be put on it.
func TestFace(t *testing.T) {
	refused := status.Error(codes.NotFound, "no such thing")
	for _, tt := range []struct {
		name   string
		play   script
		status int
		named  bool   // the response has the server's name
		body   string // in which heartbeats that follow each other are one
		cut    bool
	}{
		{"an end of its own", func(s grpc.ServerStream, _ func()) error {
			s.SetTrailer(metadata.Pairs("sum", "3"))
			return errors.Join(s.SendHeader(metadata.Pairs("name", "N:")), say(s, "a", "two", "nothing", "b"))
		}, 200, true, "N:a\none\ntwo\nN:b\nok 3\n", false},
		{"a terminal message", func(s grpc.ServerStream, _ func()) error {
			return say(s, "a", "last")
		}, 200, false, "a\nlast\n", false},
		{"messages after the terminal one", func(s grpc.ServerStream, _ func()) error {
			return errors.Join(say(s, "a", "last", "b"), say(s, "c"))
		}, 200, false, "a\nlast\n", false},
		{"silence after the terminal message", func(s grpc.ServerStream, _ func()) error {
			err := say(s, "a", "last")
			time.Sleep(3 * testHeartbeat)
			return err
		}, 200, false, "a\nlast\n", false},
		{"an error after the terminal message", func(s grpc.ServerStream, _ func()) error {
			return errors.Join(say(s, "a", "last"), refused)
		}, 200, false, "a\nlast\n", false},
		{"messages that come bit by bit", func(s grpc.ServerStream, _ func()) error {
			return say(s, "a", "long", "b", "long", "longest")
		}, 200, false, "a\nlong\nb\nlong\nlongest\n", false},
		{"nothing", func(grpc.ServerStream, func()) error { return nil }, 200, false, "ok \n", false},
		{"nothing, and no end", func(s grpc.ServerStream, _ func()) error {
			s.SetTrailer(metadata.Pairs("quiet", ""))
			return s.SendHeader(metadata.Pairs("name", "N:"))
		}, 200, true, "", false},
		{"messages that are nothing", func(s grpc.ServerStream, _ func()) error { return say(s, "nothing") }, 200, false, "ok \n", false},
		{"refused", func(grpc.ServerStream, func()) error { return refused }, 418, false, "refused NotFound\n", false},
		{"refused, but named", func(s grpc.ServerStream, _ func()) error {
			return errors.Join(s.SendHeader(metadata.Pairs("name", "N:")), refused)
		}, 418, false, "refused NotFound\n", false},
		{"a bad first message", func(s grpc.ServerStream, _ func()) error { return say(s, "bad") }, 418, false, "refused", false},
		{"refused after the window", func(_ grpc.ServerStream, heard func()) error {
			heard()
			return refused
		}, 200, false, "~\nerror NotFound\n", false},
		{"silence, everywhere", func(s grpc.ServerStream, heard func()) error {
			heard()
			err := say(s, "a")
			heard()
			return errors.Join(err, say(s, "b"))
		}, 200, false, "~\na\n~\nb\nok \n", false},
		{"named after the window", func(s grpc.ServerStream, heard func()) error {
			heard()
			return errors.Join(s.SendHeader(metadata.Pairs("name", "N:")), say(s, "a"))
		}, 200, false, "~\nN:a\nok \n", false},
		{"an error after messages", func(s grpc.ServerStream, _ func()) error {
			if err := say(s, "a"); err != nil {
				return err
			}
			return refused
		}, 200, false, "a\nerror NotFound\n", false},
		{"a panic at the first message", func(s grpc.ServerStream, _ func()) error { return say(s, "panic") }, 500, false, `{"error":{"code":500,"status":"INTERNAL"`, false},
		{"a panic", func(s grpc.ServerStream, _ func()) error { return errors.Join(say(s, "a"), say(s, "panic")) }, 200, false, "a\n", true},
		{"a panic in silence", func(s grpc.ServerStream, heard func()) error {
			heard()
			return say(s, "panic")
		}, 200, false, "~\n", true},
		{"a bad message", func(s grpc.ServerStream, _ func()) error { return say(s, "a", "bad", "b") }, 200, false, "a\nerror", false},
		{"cut", func(s grpc.ServerStream, _ func()) error {
			if err := say(s, "a", "b"); err != nil {
				return err
			}
			return status.Error(codes.Aborted, "only this reading")
		}, 200, false, "a\nb\n", true},
		{"cut after a heartbeat", func(_ grpc.ServerStream, heard func()) error {
			heard()
			return status.Error(codes.Aborted, "only this reading")
		}, 200, false, "~\n", true},
		{"no end of what can be resumed", func(s grpc.ServerStream, _ func()) error {
			return errors.Join(s.SendHeader(metadata.Pairs("id", "x")), say(s, "a"))
		}, 200, false, "a\n", true},
		{"nothing of what can be resumed", func(s grpc.ServerStream, _ func()) error {
			return s.SendHeader(metadata.Pairs("id", "x"))
		}, 418, false, "refused Unknown\n", false},
		{"a fault of the connection", resumable(refused), 200, false, "a\n", true},
		{"a slow reader", resumable(reason(t, "SLOW_READER")), 200, false, "a\n", true},
		{"a failure of this reading", resumable(ofReader(t, "UPSTREAM_UNAVAILABLE")), 200, false, "a\n", true},
		{"what is gone", resumable(reason(t, "EVENTS_EXPIRED")), 200, false, "a\n", true},
		{"what is gone, after the window", func(_ grpc.ServerStream, heard func()) error {
			heard()
			return reason(t, "EVENTS_EXPIRED")
		}, 200, false, "~\nerror Internal\n", false},
		{"the end of a completion", resumable(reason(t, "IDLE_TIMEOUT")), 200, false, "a\nerror Internal\n", false},
	} {
		for _, kind := range []string{"in process", "remote"} {
			for _, protocol := range []string{"HTTP/1.0", "HTTP/1.1", "HTTP/2.0"} {
				t.Run(tt.name+"/"+kind+"/"+protocol, func(t *testing.T) {
					t.Parallel()
					resp, heard := openFace(t, tt.play, kind, protocol)
					body, err := readHeartbeats(resp.Body, heard)
					if resp.StatusCode != tt.status || !strings.HasPrefix(body, tt.body) || (err != nil) != (tt.cut && protocol != "HTTP/1.0") {
						t.Errorf("got %d, %q, %v; want %d, %q, cut: %v", resp.StatusCode, body, err, tt.status, tt.body, tt.cut)
					}
					if extra := strings.TrimPrefix(body, tt.body); extra != "" && (tt.body == "" || strings.HasSuffix(tt.body, "\n")) {
						t.Errorf("there is more: %q", extra)
					}
					h := resp.Header
					if tt.status == 200 && (h.Get("Content-Type") != "text/x-lines" || h.Get("Cache-Control") != "no-store, no-transform" || h.Get("X-Accel-Buffering") != "no") || (h.Get("X-Name") == "N:") != tt.named {
						t.Errorf("got the headers %v", h)
					}
				})
			}
		}
	}
}

// testHeartbeat is the silence that is broken in these tests, and their commit window: longer
// than a busy machine is silent by itself.
const testHeartbeat = 80 * time.Millisecond

// openFace has streams of a script and the face serve one request on a socket.
func openFace(t *testing.T, play script, kind, protocol string) (resp *http.Response, heard chan struct{}) {
	t.Helper()
	heard = make(chan struct{}, 1)
	var conn grpc.ClientConnInterface
	in := &inproc.Conn{}
	in.RegisterService(&grpc.ServiceDesc{ServiceName: "test.Service", Streams: []grpc.StreamDesc{{StreamName: "Say", ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
		return play(s, func() {
			select {
			case <-heard: // of an earlier silence
			default:
			}
			select {
			case <-heard:
			case <-s.Context().Done():
			}
		})
	}}}}, nil)
	if conn = in; kind == "remote" {
		conn = struct{ grpc.ClientConnInterface }{inproctest.Client{Conn: in}}
	}
	log := slog.New(slog.DiscardHandler)
	conns := http1.New(http1.Config{WriteTimeout: time.Minute, Log: log})
	s := &streams{conn: conn, conns: conns, mux: newMux(log, func() *exposed { return nil }), log: log, timing: timing{testHeartbeat, testHeartbeat, time.Minute, time.Now()}}
	server := &http.Server{Protocols: &http.Protocols{}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.serve(&boundedWriter{ResponseWriter: w, timeout: time.Minute}, r, &streamCall{method: "/test.Service/Say", request: &healthpb.HealthCheckRequest{}, encoder: &lines{}})
	})}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(conns.Listener(l)) }()
	t.Cleanup(func() {
		server.Close()
		conns.Close()
		conns.Wait()
	})
	if protocol == "HTTP/1.0" {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
		if resp, err = http.ReadResponse(bufio.NewReader(c), nil); err != nil {
			t.Fatal(err)
		}
		return resp, heard
	}
	transport := &http.Transport{Protocols: &http.Protocols{}}
	transport.Protocols.SetHTTP1(protocol == "HTTP/1.1")
	transport.Protocols.SetUnencryptedHTTP2(protocol == "HTTP/2.0")
	t.Cleanup(transport.CloseIdleConnections)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+l.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err = transport.RoundTrip(req); err != nil {
		t.Fatal(err)
	}
	if resp.Proto != protocol {
		t.Fatalf("got %s, want %s", resp.Proto, protocol)
	}
	return resp, heard
}

// readHeartbeats reads a body, and tells of each heartbeat. Those that follow each other
// are returned as one.
func readHeartbeats(body io.Reader, heard chan<- struct{}) (string, error) {
	var b strings.Builder
	last := ""
	for r := bufio.NewReader(body); ; {
		line, err := r.ReadString('\n')
		if line == "~\n" {
			select {
			case heard <- struct{}{}:
			default:
			}
		}
		if line != "~\n" || last != line {
			b.WriteString(line)
		}
		last = line
		if err == io.EOF {
			return b.String(), nil
		}
		if err != nil {
			return b.String(), err
		}
	}
}
