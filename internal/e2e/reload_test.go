package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-sse/sluice/internal/auth"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
	"github.com/sluice-sse/sluice/internal/testbed"
)

// volume is a folder as Kubernetes mounts secrets: a file is a link through another link,
// which is what changes, from one folder to the next.
type volume struct {
	dir  string
	next int
}

func newVolume(t *testing.T, files map[string][]byte) *volume {
	t.Helper()
	v := &volume{dir: t.TempDir()}
	v.swap(t, files)
	for name := range files {
		if err := os.Symlink(filepath.Join("..data", name), v.file(name)); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

func (v *volume) file(name string) string { return filepath.Join(v.dir, name) }

// swap puts other files in the place of all, and takes away those from before.
func (v *volume) swap(t *testing.T, files map[string][]byte) {
	t.Helper()
	v.next++
	folder, data := fmt.Sprintf("..%d", v.next), v.file("..data")
	before, _ := os.Readlink(data)
	err := os.Mkdir(v.file(folder), 0o700)
	for name, content := range files {
		err = errors.Join(err, os.WriteFile(filepath.Join(v.dir, folder, name), content, 0o600))
	}
	err = errors.Join(err, os.Symlink(folder, data+"_tmp"), os.Rename(data+"_tmp", data))
	if before != "" {
		err = errors.Join(err, os.RemoveAll(v.file(before)))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestReload changes certificates and keys as Kubernetes does, while connections are opened
// all the time and streams run: none fails. Between them are files that are none, which
// leave the old ones in force. Last, the program is stopped in the middle of a change.
func TestReload(t *testing.T) {
	t.Parallel() // it waits for most of its time
	testbed.NeedProc(t)
	authority := testbed.NewAuthority(t)
	keys := e2etest.NewKeyring(t, "alice", "bob")
	hashed := func(principals ...string) []byte {
		text := "# keys\n"
		for _, principal := range principals {
			line, err := auth.HashKey(principal, keys.Keys[principal])
			if err != nil {
				t.Fatal(err)
			}
			text += line + "\n"
		}
		return []byte(text)
	}
	secret := func(principals ...string) map[string][]byte {
		cert, key := authority.Issue(t, "localhost", "127.0.0.1")
		return map[string][]byte{"tls.crt": cert, "tls.key": key, "keys": hashed(principals...)}
	}
	v := newVolume(t, secret("alice"))
	p := testbed.Start(t, fmt.Sprintf("main --http=127.0.0.1:0 --grpc=127.0.0.1:0 --echo-interval=20ms --tls-cert=%s --tls-key=%s --api-keys=%s --shutdown-delay=0s",
		v.file("tls.crt"), v.file("tls.key"), v.file("keys")))
	ended := false
	defer func() {
		if !ended {
			p.Stop()
		}
	}()
	client := e2etest.NewClient(t, authority.Client(t))
	models := func(who string) int {
		req, err := http.NewRequestWithContext(e2etest.ShortContext(t), "GET", "https://"+p.Addrs[0]+"/v1/models", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", keys.Of(who))
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	shown := func(addr string) string {
		config := authority.Client(t)
		config.NextProtos = []string{"h2"}
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", addr, config)
		if err != nil {
			t.Errorf("a connection that is opened during a change: %v", err)
			return ""
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	ctx, stop := context.WithCancel(t.Context())
	var opening sync.WaitGroup
	var opened atomic.Int64
	for _, addr := range p.Addrs {
		opening.Go(func() {
			for ; ctx.Err() == nil; opened.Add(1) {
				shown(addr)
				time.Sleep(time.Millisecond) // leaves others a processor
			}
		})
	}
	first := shown(p.Addrs[0])
	broken := []func(){
		func() { // half written, in place
			whole, _ := os.ReadFile(v.file("tls.crt"))
			for _, name := range []string{"tls.crt", "tls.key"} {
				_ = os.Truncate(v.file(name), int64(len(whole)/3))
			}
		},
		func() { // of different pairs
			s := secret("alice")
			s["tls.key"] = secret("alice")["tls.key"]
			s["keys"] = []byte("alice nohash\n")
			v.swap(t, s)
		},
		func() { // no files, or too large ones
			v.swap(t, map[string][]byte{})
			folder := v.file(fmt.Sprintf("..%d", v.next))
			if err := errors.Join(os.Mkdir(folder+"/tls.crt", 0o700), unix.Mkfifo(folder+"/keys", 0o600), os.WriteFile(folder+"/tls.key", nil, 0o600), os.Truncate(folder+"/tls.key", 100<<20)); err != nil {
				t.Fatal(err)
			}
		},
		func() {
			s := secret("alice")
			v.swap(t, s)
			if err := os.Truncate(v.file("keys"), 100<<20); err != nil {
				t.Fatal(err)
			}
		},
	}
	for i, breakIt := range broken {
		breakIt()
		time.Sleep(1200 * time.Millisecond) // longer than files are not looked at
		if status := models("alice"); status != 200 {
			t.Errorf("after break %d: the key is refused with %d", i, status)
		}
		if got := shown(p.Addrs[0]); got != first && i < 3 {
			t.Errorf("after break %d: another certificate is shown", i)
		}
	}
	v.swap(t, secret("bob"))
	e2etest.Eventually(t, "the new key is taken, and the old one is not", func() bool { return models("bob") == 200 && models("alice") == 401 })
	e2etest.Eventually(t, "the new certificate is shown", func() bool { return shown(p.Addrs[0]) != first && shown(p.Addrs[1]) != first })
	stop()
	opening.Wait()
	if memory := p.Proc("status", "\nVmHWM:"); memory>>10 > 200 && !underRace {
		t.Errorf("%d MiB at the peak", memory>>10)
	}
	v.swap(t, map[string][]byte{})
	_ = unix.Mkfifo(v.file(fmt.Sprintf("..%d", v.next))+"/keys", 0o600)
	p.Signal(syscall.SIGTERM)
	ended = true
	if state := p.Wait(); !state.Success() {
		t.Errorf("ended with %v", state)
	}
	fmt.Fprintf(os.Stdout, "%d connections were opened while certificates changed\n", opened.Load())
}
