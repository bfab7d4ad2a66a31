package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/sluice-sse/sluice/internal/testbed"
)

// unreadAnswers are asked for by many clients at once that take nothing of them. The
// requests may need the path of a completion that has ended.
func unreadAnswers() []struct{ name, request string } {
	long := testbed.Pace{Tokens: 4000} // 600 KB
	return []struct{ name, request string }{
		{"none", ""},
		{"streams", postCompletionOf(fmt.Sprintf(`{"model":%q,"prompt":"x"}`, long))},
		{"replays", "GET %s/events HTTP/1.1\r\nHost: localhost\r\n\r\n"},
		{"files, 100 a connection", strings.Repeat("GET /client.js HTTP/1.1\r\nHost: localhost\r\n\r\n", 100)},
	}
}

// TestUnreadAnswers prints how much a good client feels of a thousand that take nothing
// of their answers.
func TestUnreadAnswers(t *testing.T) {
	testbed.NeedProc(t)
	t.Parallel() // it waits for most of its time, and what it prints is bounded by nothing
	clients := 1000
	if underRace {
		clients = 200
	}
	upstream := testbed.Start(t, "upstream")
	defer upstream.Stop()
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "a thousand unread\tmemory\tCPU\tgood gap p50\tp99\tlongest\tlate p99\t")
	for _, a := range unreadAnswers() {
		p := testbed.Start(t, "sluice --http=127.0.0.1:0 --grpc=127.0.0.1:0 --write-timeout=3s --openai-base-url=http://"+upstream.Addrs[0]+"/v1")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if strings.Contains(a.request, "%s") {
			a.request = fmt.Sprintf(a.request, endedAt(ctx, t, p.Addrs[0], testbed.Pace{Tokens: 30000}))
		}
		good := &goodClients{}
		if err := good.start(ctx, p.Addrs[0], 4, 150); err != nil {
			t.Fatal(err)
		}
		var conns []net.Conn
		memory, cpu := p.Cost(func() {
			for range clients {
				conn, err := net.Dial("tcp", p.Addrs[0])
				if err != nil {
					t.Fatal(err)
				}
				conns = append(conns, conn)
				if _, err := io.WriteString(conn, a.request); err != nil {
					t.Fatal(err)
				}
			}
			good.wait()
		})
		for _, conn := range conns {
			conn.Close()
		}
		cancel()
		p.Stop()
		slices.Sort(good.gaps)
		slices.Sort(good.late)
		at := func(all []time.Duration, n int) time.Duration { return all[len(all)*n/1000].Round(time.Millisecond) }
		fmt.Fprintf(w, "%s\t%d MiB\t%v\t%v\t%v\t%v\t%v\t\n", a.name, memory>>20, cpu.Round(time.Millisecond),
			at(good.gaps, 500), at(good.gaps, 990), at(good.gaps, 999), at(good.late, 990))
	}
	w.Flush()
	fmt.Fprintf(os.Stdout, "\n%s\n", out.String())
}

// endedAt has a completion made, and returns its path.
func endedAt(ctx context.Context, t *testing.T, addr string, of testbed.Pace) string {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, "POST", "http://"+addr+"/v1/completions", strings.NewReader(fmt.Sprintf(`{"model":%q,"prompt":"x"}`, of)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
		t.Fatalf("got %s, %v", resp.Status, err)
	}
	return resp.Header.Get("Location")
}
