package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
	"github.com/sluice-sse/sluice/internal/skip"
)

// startNginx starts nginx with the lines of docs/operating.md, in front of a program, and
// returns its URL.
func startNginx(t *testing.T, p *e2etest.Program) string {
	t.Helper()
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		skip.For(t, "what a reverse proxy needs is tried on nginx: %v", err)
	}
	document, err := os.ReadFile(filepath.Join(e2etest.Root(), "docs/operating.md"))
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile("(?s)```nginx\n(.*?)```").FindSubmatch(document)
	if lines == nil {
		t.Fatal("docs/operating.md has no lines for nginx")
	}
	addr := e2etest.ClosedPort(t)
	config := strings.NewReplacer("127.0.0.1:8080", strings.TrimPrefix(p.HTTP, "http://"), "8081", addr).Replace(string(lines[1]))
	dir := t.TempDir()
	config = fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/log; events {}
http {
	access_log off; client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
%[2]s}`, dir, config)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(nginx, "-p", dir, "-e", filepath.Join(dir, "log"), "-c", file)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	e2etest.Eventually(t, "nginx serves", func() bool {
		resp, err := http.Get("http://" + addr + "/healthz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == 200
	})
	return "http://" + addr
}

// TestNginx holds a stream through nginx against one without: each event comes when it is
// sent, a silence is broken, and when the client leaves, the upstream learns it.
func TestNginx(t *testing.T) {
	t.Parallel() // it waits for most of its time
	next := make(chan string)
	u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		for {
			select {
			case text, ok := <-next:
				if !ok {
					e2etest.Chunk(w, `{}`, "stop")
					return
				}
				e2etest.Say(w, text)
			case <-r.Context().Done():
				return
			}
		}
	})
	p := e2etest.Start(t, layouts[0], u.Env(), "--heartbeat=100ms")
	through := &e2etest.Program{HTTP: startNginx(t, p), Log: p.Log}
	resp := through.Post(t, e2etest.Question)
	if kind := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || kind != "text/event-stream" {
		t.Fatalf("%s %s", resp.Status, kind)
	}
	buf := make([]byte, 64<<10)
	for i := range 50 { // the next one is not sent before this one is there
		next <- fmt.Sprintf("word%d ", i)
		var got string
		for !strings.Contains(got, fmt.Sprintf("word%d ", i)) {
			n, err := resp.Body.Read(buf)
			if got += string(buf[:n]); err != nil {
				t.Fatalf("after %q: %v", got, err)
			}
		}
	}
	n, err := resp.Body.Read(buf)
	if got := string(buf[:n]); err != nil || !strings.HasPrefix(got, ": hb\n") {
		t.Errorf("a silence: %q, %v", got, err)
	}
	close(next)
	if rest, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(rest), "event: finished\n") {
		t.Errorf("the end: %q, %v", rest, err)
	}

	next = make(chan string)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	began := make(chan struct{})
	go func() { next <- "word"; close(began) }()
	left := through.Send(ctx, t, "POST", "/v1/completions", e2etest.Question)
	<-began
	for len(u.Gone) > 0 {
		<-u.Gone
	}
	if _, err := left.Body.Read(buf); err != nil {
		t.Fatal(err)
	}
	leave()
	select {
	case <-u.Gone:
	case <-time.After(10 * time.Second):
		t.Error("the upstream goes on when the client has left")
	}
}
