package e2e

import (
	"io"
	"net"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sluice-sse/sluice/internal/app"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// newNameServer starts a DNS server for which each name has the addresses, in turn
// another one of them first. It returns its address.
func newNameServer(t *testing.T, addresses ...[4]byte) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 1500)
		for turn := 0; ; turn++ {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.Authoritative, m.Additionals = true, true, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				for i := range addresses {
					m.Answers = append(m.Answers, dnsmessage.Resource{
						Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
						Body:   &dnsmessage.AResource{A: addresses[(turn+i)%len(addresses)]},
					})
				}
			}
			if answer, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	}()
	return conn.LocalAddr().String()
}

// TestServersBehindOneName checks that a bridge to servers that share no journal uses
// one of them: what began can be resumed, and a key pays once; and the next one when that
// is gone.
func TestServersBehindOneName(t *testing.T) {
	one, two := &e2etest.Program{Log: &e2etest.LockedBuffer{}}, &e2etest.Program{Log: &e2etest.LockedBuffer{}}
	one.GRPC = e2etest.StartOne(t, one, nil, "server", "--grpc=127.0.0.1:0", "--echo-interval=0s")[0]
	_, port, _ := net.SplitHostPort(one.GRPC)
	e2etest.StartOne(t, two, nil, "server", "--grpc=127.0.0.2:"+port, "--echo-interval=0s")
	names := newNameServer(t, [4]byte{127, 0, 0, 2}, [4]byte{127, 0, 0, 1})
	var bridges []*e2etest.Program
	for range 3 {
		b := &e2etest.Program{Log: &e2etest.LockedBuffer{}}
		b.HTTP = e2etest.StartOne(t, b, nil, "bridge", "--http=127.0.0.1:0", "--server=dns://"+names+"/sluice.test:"+port)[0]
		bridges = append(bridges, b)
	}
	ids := map[string]bool{}
	for i := range 12 {
		b, next := bridges[i%3], bridges[(i+1)%3]
		resp := b.Post(t, `{"prompt":"Hi"}`, "Idempotency-Key", "k")
		got, err := e2etest.Messages(resp.Body)
		if err != nil || len(got) != 3 {
			t.Fatalf("got %v, %v", got, err)
		}
		id := strings.TrimPrefix(resp.Header.Get("Location"), "/v1/completions/")
		ids[id] = true
		if resp := next.Send(t.Context(), t, "GET", "/v1/completions/"+id+"/events", ""); resp.StatusCode != 200 {
			t.Errorf("resumed: %s", resp.Status)
		}
	}
	if len(ids) != 1 {
		t.Errorf("one key has paid %d times", len(ids))
	}
	if log := bridges[0].Log.String(); strings.Count(log, "127.0.0.1:"+port+" 127.0.0.2:"+port) != 1 || !strings.Contains(log, "one at a time") {
		t.Errorf("the log says %s", log)
	}
	<-one.Stop()
	e2etest.Eventually(t, "the other server answers", func() bool {
		resp := bridges[0].Post(t, `{"prompt":"Hi"}`)
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode == 200
	})
}

// TestServerComesLater checks that a bridge says that it has no server, and uses one that
// comes.
func TestServerComesLater(t *testing.T) {
	addr := e2etest.ClosedPort(t)
	b := &e2etest.Program{Log: &e2etest.LockedBuffer{}}
	b.HTTP = e2etest.StartOne(t, b, nil, "bridge", "--http=127.0.0.1:0", "--server="+addr)[0]
	if resp := b.Post(t, `{"prompt":"Hi"}`); resp.StatusCode != 503 {
		t.Errorf("without a server: %s", resp.Status)
	}
	e2etest.StartOne(t, b, nil, "server", "--grpc="+addr)
	e2etest.Eventually(t, "the bridge is ready", func() bool { return e2etest.StatusOf(t, b.HTTP+"/readyz") == 200 })
}

func TestServerIsChecked(t *testing.T) {
	var printed e2etest.LockedBuffer
	err := app.Run(t.Context(), []string{"bridge", "--http=127.0.0.1:0", "--server=http://127.0.0.1:9090"}, func(string) string { return "" }, &printed, &printed)
	if err == nil || !strings.Contains(err.Error(), "--server http://127.0.0.1:9090: http:// is not how gRPC names a server") {
		t.Errorf("got %v", err)
	}
	b := &e2etest.Program{Log: &e2etest.LockedBuffer{}}
	e2etest.StartOne(t, b, nil, "bridge", "--http=127.0.0.1:0", "--server=dns://"+newNameServer(t)+"/sluice.test:9090")
	e2etest.Eventually(t, "the log says that there is no such name", func() bool {
		return strings.Contains(b.Log.String(), "--server cannot be resolved")
	})
}
