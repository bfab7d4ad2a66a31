package app

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/sluice-sse/sluice/bridge"
	"github.com/sluice-sse/sluice/internal/inproc"
)

// httpFace is the HTTP face.
type httpFace struct {
	bridge         *bridge.Bridge
	http           *http.Server
	listener       net.Listener
	tls            *listenerTLS // nil: there is none
	cancelRequests context.CancelFunc
}

// newHTTPFace returns one that listens, in front of the server behind conn.
func newHTTPFace(p *program, conn grpc.ClientConnInterface, f *bridgeFlags, exposed *exposeFlags, common *commonFlags, limit decodeLimit) (*httpFace, error) {
	h := &httpFace{}
	files, err := common.httpFiles()
	if err != nil {
		return nil, err
	}
	if h.tls, err = p.listenerTLS(files, "h2", "http/1.1"); err != nil {
		return nil, err
	}
	if h.listener, err = common.listen("--http", f.HTTP, p); err != nil {
		return nil, err
	}
	config := bridge.Config{
		CommitWindow:   time.Duration(f.CommitWindow),
		Heartbeat:      time.Duration(f.Heartbeat),
		WriteTimeout:   time.Duration(common.WriteTimeout),
		MaxBody:        int64(common.MaxBody),
		BodyMemory:     int64(f.BodyMemory),
		ResponseMemory: int64(f.ResponseMemory),
		DecodeLimit:    limit,
		CORSOrigins:    f.CORSOrigin,
		Hosts:          f.hosts(h.listener.Addr()),
		DedupeWindow:   time.Duration(f.DedupeWindow),
		Log:            p.log,
		Observe:        p.telemetry.Observe,
	}
	exposed.applyTo(&config)
	if h.bridge, err = bridge.New(conn, config); err != nil {
		h.listener.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.cancelRequests = cancel
	h.http = &http.Server{
		Handler:     h.withCaller(h.bridge),
		BaseContext: func(net.Listener) context.Context { return ctx },
		IdleTimeout: 2 * time.Minute,
		ErrorLog:    log.New(errorLog{p.log}, "", 0),
		Protocols:   &http.Protocols{},
		// net/http would answer OPTIONS * by itself: for any host, and reading any body.
		DisableGeneralOptionsHandler: true,
		// A client whose machine is gone says nothing: ping it.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 20 * time.Second, PingTimeout: 10 * time.Second},
	}
	common.limitHTTP(h.http, &f.httpConnectionFlags, p)
	h.bridge.Configure(h.http)
	h.http.Protocols.SetHTTP1(true)
	if h.tls != nil {
		h.http.TLSConfig = h.tls.config
		h.http.Protocols.SetHTTP2(true)
	} else {
		h.http.Protocols.SetUnencryptedHTTP2(true) // browsers want TLS for it, proxies do not
	}
	return h, nil
}

// withCaller tells the interceptors, in one process, what certificate a client has shown
// and the listener has verified. To a server elsewhere, nobody but the client could.
//
// A connection whose certificate is not good any more gets no other request: the next one
// comes over one that begins with what the client has by then. What runs goes on.
func (h *httpFace) withCaller(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
			client := h.tls.store.Client(*r.TLS)
			if _, err := client.Certificate(); err != nil {
				w.Header().Set("Connection", "close")
			}
			caller := &peer.Peer{AuthInfo: client}
			caller.Addr, _ = net.ResolveTCPAddr("tcp", r.RemoteAddr)
			caller.LocalAddr, _ = r.Context().Value(http.LocalAddrContextKey).(net.Addr)
			r = r.WithContext(inproc.WithCaller(r.Context(), caller))
		}
		next.ServeHTTP(w, r)
	})
}

// hosts returns what a request may have as Host. On loopback, nobody but this machine
// can call, and what its browsers may bring in by another name is kept out. A server
// elsewhere is called by the names of its services and proxies, which it does not know,
// and what anybody can reach is not guarded by its name.
func (f *bridgeFlags) hosts(listener net.Addr) []string {
	tcp, ok := listener.(*net.TCPAddr)
	if !ok || !tcp.IP.IsLoopback() {
		return f.AllowHost
	}
	hosts := append([]string{tcp.IP.String()}, f.AllowHost...)
	if name, _, err := net.SplitHostPort(f.HTTP); err == nil && name != "" {
		hosts = append(hosts, name)
	}
	return hosts
}

func (h *httpFace) addr() address { return address{h.listener.Addr().String(), h.tls} }

func (h *httpFace) listensOn() net.Addr { return h.listener.Addr() }

func (h *httpFace) serve() (err error) {
	if l := h.bridge.Listener(h.listener); h.tls != nil {
		err = h.http.ServeTLS(l, "", "")
	} else {
		err = h.http.Serve(l)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (h *httpFace) announce() { h.bridge.Drain() } // which refuses at the same moment

func (h *httpFace) drain(context.Context) {}

func (h *httpFace) shutdown(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(lastRead, h.closeAll) })
	defer stop()
	// Shutdown waits for open streams, for ever if it must: closeAll ends those that
	// are left.
	_ = h.http.Shutdown(context.WithoutCancel(ctx))
	h.bridge.Wait()
	h.closeAll()
}

// closeAll ends all requests and streams, and those, too, that wait for a client which
// takes nothing.
func (h *httpFace) closeAll() {
	h.cancelRequests()
	h.bridge.Close()
	h.http.Close()
}
