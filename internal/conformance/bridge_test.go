package conformance

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"

	"github.com/sluice-sse/sluice/internal/app"
)

// forwarded are the headers that are metadata: those of the cases, and those by which the
// runner's server knows a case, and what is to be true of it.
var forwarded = []string{
	"X-Conformance-Test", "X-Conformance-Bin", "X-Test-Case-Name", "X-Expect-Client-Cert", "X-Expect-Codec", "X-Expect-Compression",
	"X-Expect-Http-Method", "X-Expect-Http-Version", "X-Expect-Protocol", "X-Expect-Tls",
}

// bridges are a client's, one in front of each server. They are for many goroutines at once.
type bridges struct {
	dir string

	mu      sync.Mutex // guards all below
	started map[string]*bridge
}

// bridge is one that runs, in this process, as it does in its own.
type bridge struct {
	url    string
	client *http.Client
	relay  *relay // nil: between it and the server there is TLS
	cancel context.CancelFunc
	ended  chan error
}

// inFrontOf returns the bridge in front of the server that a request is for.
func (all *bridges) inFrontOf(request *compatRequest) (*bridge, error) {
	all.mu.Lock()
	defer all.mu.Unlock()
	server := net.JoinHostPort(request.Host, strconv.Itoa(request.Port))
	key := server + request.Compression
	if b := all.started[key]; b != nil {
		return b, nil
	}
	b, err := all.start(server, request)
	if err == nil {
		all.started[key] = b
	}
	return b, err
}

// address is what a bridge prints first.
var address = regexp.MustCompile(`https?://127\.0\.0\.1:\d+`)

// start starts a bridge. It speaks TLS, and so HTTP/2, if the server does.
func (all *bridges) start(server string, request *compatRequest) (*bridge, error) {
	b := &bridge{ended: make(chan error, 1)}
	args := []string{
		"bridge", "--http=127.0.0.1:0", "--expose=" + request.Service, "--descriptors=" + filepath.Join(all.dir, descriptorsFile),
	}
	for _, name := range forwarded {
		args = append(args, "--forward-header="+name)
	}
	if request.Compression == "COMPRESSION_GZIP" {
		args = append(args, "--server-compression=gzip")
	}
	if request.ServerTLSCert == nil {
		var err error
		if b.relay, err = newRelay(server); err != nil {
			return nil, err
		}
		b.client = &http.Client{Transport: &http.Transport{}}
		args = append(args, "--server="+b.relay.Addr().String())
	} else {
		secure, config, err := all.secure(request)
		if err != nil {
			return nil, err
		}
		b.client = &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}}
		args = append(append(args, "--server="+server), secure...)
	}
	return b, b.run(args)
}

// run runs the program, and returns when it listens.
func (b *bridge) run(args []string) error {
	var ctx context.Context
	ctx, b.cancel = context.WithCancel(context.Background())
	stdout, write := io.Pipe()
	go func() {
		err := app.Run(ctx, args, func(string) string { return "" }, write, io.Discard)
		_ = write.CloseWithError(errors.Join(io.EOF, err))
		b.ended <- err
	}()
	r := bufio.NewReader(stdout)
	line, err := r.ReadString('\n')
	if err != nil {
		return fmt.Errorf("start a bridge: %w", err)
	}
	go func() { _, _ = io.Copy(io.Discard, r) }()
	b.url = address.FindString(line)
	return nil
}

// secure returns the arguments by which a bridge speaks TLS on both sides, and the
// configuration of its clients.
func (all *bridges) secure(request *compatRequest) (args []string, config *tls.Config, err error) {
	var failed error
	file := func(content []byte) string {
		name := filepath.Join(all.dir, fmt.Sprintf("%x.pem", sha256.Sum256(content)))
		failed = errors.Join(failed, os.WriteFile(name, content, 0o600))
		return name
	}
	args = []string{
		"--tls-cert=" + filepath.Join(all.dir, "cert.pem"), "--tls-key=" + filepath.Join(all.dir, "key.pem"),
		"--server-ca=" + file(request.ServerTLSCert),
	}
	if creds := request.ClientTLSCreds; creds != nil {
		args = append(args, "--server-cert="+file(creds.Cert), "--server-key="+file(creds.Key))
	}
	authority, err := os.ReadFile(filepath.Join(all.dir, "ca.pem"))
	config = &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AppendCertsFromPEM(authority)
	return args, config, errors.Join(failed, err)
}

// stop stops all, and waits until they have.
func (all *bridges) stop() {
	all.mu.Lock()
	defer all.mu.Unlock()
	for _, b := range all.started {
		b.cancel()
	}
	for _, b := range all.started {
		<-b.ended
		if b.relay != nil {
			_ = b.relay.Close()
		}
	}
}
