package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
	"github.com/sluice-sse/sluice/internal/skip"
)

// speaker is an upstream whose completions say the numbers from 0 on, ten a second. Those
// of the model "short" end soon after the drain has begun, the others never.
func speaker(t *testing.T, drained <-chan struct{}) *e2etest.Upstream {
	return e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		var end <-chan time.Time
		begun, short := drained, e2etest.ModelOf(r) == "short"
		for i := 0; ; i++ {
			e2etest.Say(w, fmt.Sprint(i, " "))
			select {
			case <-end:
				e2etest.Chunk(w, `{}`, "stop")
				return
			case <-begun:
				if begun = nil; short {
					end = time.After(500 * time.Millisecond)
				}
			case <-time.After(100 * time.Millisecond):
			case <-r.Context().Done():
				return
			}
		}
	})
}

// numbers checks that a text is the numbers from 0 on, and returns how many.
func numbers(text string) (int, error) {
	words := strings.Fields(text)
	for i, word := range words {
		if word != strconv.Itoa(i) {
			return i, fmt.Errorf("%q follows %d", word, i-1)
		}
	}
	return len(words), nil
}

const (
	drainDelay   = 2 * time.Second
	drainTimeout = 3 * time.Second
)

// TestDrain stops the program while many streams run. A client sees that it is not ready
// before anything is refused, and that its listeners are open; each stream has all of its
// events, and ends in finished or in DRAINING; clients are told to come back at different
// times; and the program has ended in time.
func TestDrain(t *testing.T) {
	t.Parallel() // it waits for most of its time
	streams := 200
	if underRace {
		streams = 60
	}
	for _, layout := range append(layouts, "two processes, of which one stops") {
		t.Run(layout, func(t *testing.T) {
			drained := make(chan struct{})
			u := speaker(t, drained)
			p := e2etest.Start(t, layout, u.Env(), "--shutdown-delay="+drainDelay.String(), "--drain-timeout="+drainTimeout.String())
			var all sync.WaitGroup
			answers := make([]*answer, streams)
			for i := range answers {
				all.Go(func() {
					model := []string{"short", "long"}[i/2%2]
					a, err := faces[2*(i%2)].ask(t.Context(), p, strings.Replace(e2etest.Question, `"m"`, `"`+model+`"`, 1)) // SSE and gRPC
					if err != nil {
						t.Errorf("stream %d: %v", i, err)
						a = &answer{}
					}
					answers[i] = a
				})
			}
			e2etest.Eventually(t, "all streams run", func() bool { return u.Open.Load() == int64(streams) })
			running, refused := newApplication(t, p), newApplication(t, p)
			if running.post(); running != nil {
				e2etest.Eventually(t, "client.js reads", func() bool { return u.Open.Load() == int64(streams+1) })
			}

			stop := p.Stop
			if strings.HasSuffix(layout, "one stops") { // the server, of which the bridge hears
				stop = p.StopServer
			}
			began := time.Now()
			stopped := stop()
			e2etest.Eventually(t, "a new completion is refused", func() bool {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				return p.Send(ctx, t, "POST", "/v1/completions", `{"model":"echo","prompt":"Hi"}`).StatusCode == 503
			})
			close(drained)
			checkDraining(t, p)
			refused.post()
			all.Wait()
			<-stopped
			took := time.Since(began)
			if took > drainTimeout+5*time.Second {
				t.Errorf("it has stopped after %v", took)
			}
			ends := map[string]int{}
			retries := map[string]bool{}
			for i, a := range answers {
				end, retry := checkDrained(t, i, a)
				ends[end]++
				retries[retry] = true
			}
			if ends["finished"] != streams/2 || ends["DRAINING"] != streams/2 || len(retries) < streams/2 {
				t.Errorf("got %v, %d different times to come back", ends, len(retries))
			}
			running.check(t, "the server has stopped before the completion was finished: try again", false)
			refused.check(t, "the server is stopping and begins no new completions: try again", true)
			fmt.Fprintf(os.Stdout, "drain of %d streams, %s: %v in %v, none lost an event\n", streams, layout, ends, took.Round(10*time.Millisecond))
		})
	}
}

// checkDraining checks that the program, which refuses a new completion, has said before that
// it is not ready, on both faces; both listen still.
func checkDraining(t *testing.T, p *e2etest.Program) {
	t.Helper()
	conn, err := grpc.NewClient(p.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if status := e2etest.StatusOf(t, p.HTTP+"/readyz"); status != 503 {
		t.Errorf("/readyz says %d", status)
	}
	if status := e2etest.StatusOf(t, p.HTTP+"/healthz"); status != 200 {
		t.Errorf("/healthz says %d", status)
	}
	resp, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || resp.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("the health service says %v, %v", resp, err)
	}
	for _, addr := range []string{strings.TrimPrefix(p.HTTP, "http://"), p.GRPC} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Error(err)
			continue
		}
		c.Close()
	}
}

var retryLine = regexp.MustCompile(`(?m)^retry: (\d+)$`)

// checkDrained checks one stream, and returns how it ended and when its client is to come
// back.
func checkDrained(t *testing.T, i int, a *answer) (end, retry string) {
	t.Helper()
	if n, err := numbers(a.text); err != nil || n == 0 {
		t.Errorf("stream %d: %d words, %v", i, n, err)
	}
	end = "finished"
	if a.status != nil {
		end = reason(a.status)
		if d := retryDelay(a.status); d < time.Second || d > 3*time.Second {
			t.Errorf("stream %d: come back after %v", i, d)
		}
	}
	if a.header == nil {
		return end, retryDelay(a.status).String()
	}
	lines := retryLine.FindAllStringSubmatch(a.raw, -1)
	if len(lines) != 2 {
		t.Errorf("stream %d: %v", i, lines)
		return end, ""
	}
	if ms, err := strconv.Atoi(lines[1][1]); err != nil || ms < 1000 || ms > 3000 {
		t.Errorf("stream %d: %v", i, lines)
	}
	return end, lines[1][1]
}

// application is a program that reads with client.js, in Node. Without that there is none:
// nil.
type application struct {
	begin  io.Closer // it posts when this is closed
	stdout *bufio.Reader
	cmd    *exec.Cmd
}

// newApplication starts one, and waits until it can post.
func newApplication(t *testing.T, p *e2etest.Program) *application {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		return nil
	}
	cmd := exec.CommandContext(t.Context(), node, "testdata/clients/drained.js", p.HTTP+"/v1/completions", `{"model":"long","prompt":"Hi"}`)
	cmd.Stderr = t.Output()
	stdin, errIn := cmd.StdinPipe()
	stdout, errOut := cmd.StdoutPipe()
	a := &application{stdin, bufio.NewReader(stdout), cmd}
	err = errors.Join(errIn, errOut, cmd.Start())
	if err == nil {
		_, err = a.stdout.ReadString('\n')
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *application) post() {
	if a != nil {
		a.begin.Close()
	}
}

// check checks that client.js says clearly what happened: to a completion that ran, or to
// one that was refused, which it gives up as lost when it has tried for long enough.
func (a *application) check(t *testing.T, message string, refused bool) {
	t.Helper()
	if a == nil {
		skip.For(t, "there is no node on the PATH, so nobody reads with client.js: install Node 20")
	}
	var got struct {
		Text  string
		Error struct {
			Reason, Message string
			Retryable, Lost bool
		}
	}
	err := json.NewDecoder(a.stdout).Decode(&got)
	if err := errors.Join(err, a.cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	if got.Error.Reason != "DRAINING" || got.Error.Message != message || !got.Error.Retryable || got.Error.Lost != refused {
		t.Errorf("client.js says %+v", got.Error)
	}
	if n, err := numbers(got.Text); err != nil || (n == 0) != refused {
		t.Errorf("client.js gave %q, %v", got.Text, err)
	}
}
