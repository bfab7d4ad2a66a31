package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/testbed"
)

// attack is something that would take a service more than its share. One row of the
// table that TestAttacks prints.
type attack struct {
	name   string
	args   []string // of the program, besides its addresses and its upstream
	bytes  int      // that one of them sends
	atOnce int      // how many come at once
	factor float64  // the most memory that one may take, in multiples of the bytes

	// one makes one of them and returns how it ended.
	one func(ctx context.Context, to target) string
}

// target is where attacks go.
type target struct{ http, grpc string }

// attacks returns what can be done with the body of a request: 4 MiB of it where nothing
// else is said, or as much as is accepted. A function, so that no process that is this test
// binary is measured with them.
func attacks() []attack {
	return slices.Concat(
		[]attack{{name: "none", bytes: 4 << 20, factor: 20, one: func(context.Context, target) string { return "" }}},
		posts("array in a tool's parameters", tool(`{"enum":[`+filled("1,", 4<<20)+`1]}`)),
		posts("objects in a tool's parameters", tool(`{"enum":[`+filled("{},", 4<<20)+`1]}`)),
		posts("members in a tool's parameters", tool(`{`+counted(`"%x":1,`, 4<<20)+`"":1}`)),
		posts("array in a schema", ending(`"response_format":{"type":"json_schema","json_schema":{"name":"s","schema":{"enum":[`+filled("1,", 4<<20)+`1]}}}`)),
		posts("array in extra", ending(`"extra":{"a":[`+filled("1,", 4<<20)+`1]}`)),
		posts("array in a message's extra", `{"model":"cmpl_0-0-false","messages":[{"role":"user","content":"Hi","extra":{"a":[`+filled("1,", 4<<20)+`1]}}]}`),
		posts("empty messages", `{"model":"cmpl_0-0-false","messages":[`+filled("{},", 4<<20)+`{}]}`),
		posts("short messages", ending(`"messages":[`+filled(`{"role":"user","content":"a"},`, 4<<20)+`{"role":"user","content":"a"}]`)),
		posts("messages of 1 KiB", ending(`"messages":[`+filled(`{"role":"user","content":"`+filled("a", 1<<10)+`"},`, 4<<20)+`{"role":"user","content":"a"}]`)),
		posts("messages of 1 KiB, with a key", ending(`"idempotency_key":"k","messages":[`+filled(`{"role":"user","content":"`+filled("a", 1<<10)+`"},`, 4<<20)+`{"role":"user","content":"a"}]`)),
		posts("parts", `{"model":"cmpl_0-0-false","messages":[{"role":"user","parts":[`+filled(`{"text":""},`, 4<<20)+`{"text":""}]}]}`),
		posts("metadata", ending(`"metadata":{`+counted(`"%x":"",`, 4<<20)+`"":""}`)),
		posts("nested", tool(`{"a":`+filled("[", 2<<20)+filled("]", 2<<20)+`}`)),
		posts("array in a tool's parameters, as long as may be", tool(`{"enum":[`+filled("1,", 700<<10)+`1]}`)),
		costly(posts("short messages, as many as may be", ending(`"messages":[`+filled(`{"role":"user","content":"a"},`, 750<<10)+`{"role":"user","content":"a"}]`))),
		posts("escapes", ending(`"prompt":"`+filled(`\u0061`, 4<<20)+`"`)),
		calls("gRPC: empty messages, 31 MiB", filled("\x1a\x00", 31<<20)),
		calls("gRPC: empty messages", filled("\x1a\x00", 4<<20)),
		calls("gRPC: short messages", filled("\x1a\x09\x0a\x04user\x12\x01a", 4<<20)),
		calls("gRPC: members in extra's text", "\x1a\x09\x0a\x04user\x12\x01a"+field(27, `{`+counted(`"%x":1,`, 4<<20)+`"":1}`)),
		calls("gRPC: array in extra's text", "\x1a\x09\x0a\x04user\x12\x01a"+field(27, `{"a":[`+filled("1,", 4<<20)+`1]}`)),
	)
}

// ending is a request with these members; the parts of it that they lack are added.
func ending(members string) string {
	if !strings.Contains(members, `"prompt"`) && !strings.Contains(members, `"messages"`) {
		members = `"messages":[{"role":"user","content":"Hi"}],` + members
	}
	return `{"model":"cmpl_0-0-false",` + members + `}`
}

func tool(parameters string) string {
	return ending(`"tools":[{"function":{"name":"f","parameters":` + parameters + `}}]`)
}

// filled is s, as often as it fits into n bytes and a request around them.
func filled(s string, n int) string { return strings.Repeat(s, (n-300)/len(s)) }

// counted is the format with the numbers from 0, as many as fit.
func counted(format string, n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n-300; i++ {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// posts is an attack by posting a body.
func posts(name, body string) []attack {
	return []attack{{name: name, bytes: len(body), atOnce: 16, factor: 20, one: func(ctx context.Context, to target) string {
		req, err := http.NewRequestWithContext(ctx, "POST", "http://"+to.http+"/v1/completions", strings.NewReader(body))
		if err != nil {
			return err.Error()
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return fmt.Sprint(resp.StatusCode)
	}}}
}

// costly allows attacks more memory for each byte: they have few bytes, and so take no
// more in all than others.
func costly(attacks []attack) []attack {
	for i := range attacks {
		attacks[i].factor *= 3
	}
	return attacks
}

// field is a field of wire type 2.
func field(number protowire.Number, content string) string {
	return string(protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), content))
}

// calls is an attack by a call with a request in protobuf's wire form.
func calls(name, request string) []attack {
	return []attack{{name: name, bytes: len(request), atOnce: 16, factor: 20, one: func(ctx context.Context, to target) string {
		conn, err := grpc.NewClient(to.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err.Error()
		}
		defer conn.Close()
		_, err = completionv1.NewCompletionServiceClient(conn).CreateCompletion(ctx, &completionv1.CompletionRequest{}, grpc.ForceCodec(wire(request)))
		return status.Code(err).String()
	}}}
}

// TestAttacks prints what attacks cost, and holds what one takes in memory against
// what it sends. What a good client sees meanwhile is printed only: it is the
// machine's, too.
func TestAttacks(t *testing.T) {
	testbed.NeedProc(t)
	if underRace {
		return // which takes memory of its own: it is measured without
	}
	upstream := testbed.Start(t, "upstream")
	defer upstream.Stop()
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "attack\tends in\tMiB\tmemory\t×\tCPU\tat once\tmemory\t×\tCPU\tgood gap p50\tp99\tlate p99\t")
	for _, a := range attacks() {
		t.Run(a.name, func(t *testing.T) { a.measure(t, upstream, w) })
	}
	w.Flush()
	fmt.Fprintf(os.Stdout, "\n%s\n", out.String())
}

// measure makes an attack alone, and then many at once, on a program of its own.
func (a *attack) measure(t *testing.T, upstream *testbed.Process, w io.Writer) {
	p := testbed.Start(t, "sluice --http=127.0.0.1:0 --grpc=127.0.0.1:0 --openai-base-url=http://"+upstream.Addrs[0]+"/v1 "+strings.Join(a.args, " "))
	defer p.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	to := target{p.Addrs[0], p.Addrs[1]}
	good := &goodClients{}
	if err := good.start(ctx, to.http, 1, 10); err != nil { // what the first request takes is nobody's
		t.Fatal(err)
	}
	good.wait()

	var end string
	one, oneCPU := p.Cost(func() { end = a.one(ctx, to) })
	factor := float64(one) / float64(a.bytes)
	if factor > a.factor {
		t.Errorf("takes %.1f times its bytes, want at most %.0f", factor, a.factor)
	}

	good = &goodClients{}
	meanwhile, over := context.WithCancel(ctx)
	defer over()
	if err := good.start(meanwhile, to.http, 8, 1_000_000); err != nil {
		t.Fatal(err)
	}
	many, manyCPU := p.Cost(func() {
		begun := time.Now()
		var all sync.WaitGroup
		for range a.atOnce {
			all.Go(func() { a.one(ctx, to) })
		}
		all.Wait()
		time.Sleep(time.Until(begun.Add(300 * time.Millisecond))) // an attack may be over before good clients can notice it
	})
	over()
	good.wait()
	if len(good.gaps) == 0 {
		t.Fatal("the good clients got nothing")
	}
	slices.Sort(good.gaps)
	slices.Sort(good.late)
	p99 := func(all []time.Duration) time.Duration { return all[len(all)*99/100].Round(time.Millisecond) }
	fmt.Fprintf(w, "%s\t%s\t%.1f\t%d MiB\t%.1f\t%v\t%d\t%d MiB\t%.1f\t%v\t%v\t%v\t%v\t\n",
		a.name, end, float64(a.bytes)/(1<<20), one>>20, factor, oneCPU.Round(time.Millisecond),
		a.atOnce, many>>20, float64(many)/float64(max(a.atOnce, 1)*a.bytes), manyCPU.Round(time.Millisecond),
		good.gaps[len(good.gaps)/2].Round(time.Millisecond), p99(good.gaps), p99(good.late))
}

// goodClients read streams of 50 tokens a second.
type goodClients struct {
	secure *tls.Config // nil: without TLS
	ended  sync.WaitGroup

	mu   sync.Mutex      // guards all below
	gaps []time.Duration // between two tokens
	late []time.Duration // how long after its sending a token was read
}

// start starts n clients that read so many tokens each. It returns when each has had
// the first.
func (g *goodClients) start(ctx context.Context, addr string, n, tokens int) error {
	begun := make(chan error, n)
	for range n {
		g.ended.Go(func() { g.read(ctx, addr, tokens, begun) })
	}
	for range n {
		if err := <-begun; err != nil {
			return err
		}
	}
	return nil
}

func (g *goodClients) wait() { g.ended.Wait() }

// read reads one stream, and notes the times between its tokens.
func (g *goodClients) read(ctx context.Context, addr string, tokens int, begun chan<- error) {
	body := fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"Hello"}]}`, testbed.Pace{Tokens: tokens, Interval: 20 * time.Millisecond})
	client, url := http.DefaultClient, "http://"+addr
	if g.secure != nil {
		client, url = &http.Client{Transport: &http.Transport{TLSClientConfig: g.secure}}, "https://"+addr
		defer client.CloseIdleConnections()
	}
	req, err := http.NewRequestWithContext(ctx, "POST", url+"/v1/completions", strings.NewReader(body))
	if err != nil {
		begun <- err
		return
	}
	resp, err := client.Do(req)
	if err != nil {
		begun <- err
		return
	}
	defer resp.Body.Close()
	var last time.Time
	var gaps, late []time.Duration
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		sent, ok := tokenTime(lines.Text())
		if !ok {
			continue
		}
		now := time.Now()
		late = append(late, now.Sub(sent))
		if last.IsZero() {
			begun <- nil
		} else {
			gaps = append(gaps, now.Sub(last))
		}
		last = now
	}
	if last.IsZero() {
		begun <- fmt.Errorf("a good client got %s, and no token", resp.Status)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gaps = append(g.gaps, gaps...)
	g.late = append(g.late, late...)
}

// tokenTime returns when the token in a line was sent.
func tokenTime(line string) (time.Time, bool) {
	parts := strings.Split(line, "~")
	if len(parts) != 3 {
		return time.Time{}, false
	}
	_, at, ok := testbed.ParseToken([]byte(parts[1]))
	return at, ok
}
