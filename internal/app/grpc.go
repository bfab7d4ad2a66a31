package app

import (
	"cmp"
	"context"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"

	"github.com/sluice-sse/sluice/internal/auth"
	"github.com/sluice-sse/sluice/server"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/engine/echo"
	"github.com/sluice-sse/sluice/server/engine/openai"
)

// grpcFace is the gRPC face and all that is behind it.
type grpcFace struct {
	server       *server.Server
	interceptors interceptors // of all calls, in whatever way they come
	auth         *auth.Authenticator
	grpc         *grpc.Server
	health       *health.Server
	listener     net.Listener
	tls          *listenerTLS // nil: there is none
	journal      keptJournal
	pacer        *pacer         // of the garbage collector; nil: there is none
	upstream     *openai.Engine // nil: there is none
	hasKey       bool           // for the upstream
}

// newGRPCFace returns one that listens. It is to be closed.
func newGRPCFace(p *program, f *serverFlags, common *commonFlags, limit decodeLimit) (*grpcFace, error) {
	g := &grpcFace{}
	creds, err := g.openTLS(p, f, common)
	if err != nil {
		return nil, err
	}
	upstream, err := g.openUpstream(p, f)
	if err != nil {
		return nil, err
	}
	if g.auth, err = f.authenticator(p.log); err != nil {
		return nil, err
	}
	if g.listener, err = f.listen(common, p); err != nil {
		g.auth.Close()
		return nil, err
	}
	if g.journal, err = f.journalFlags.open(time.Duration(f.TotalTimeout), p.log); err != nil {
		g.auth.Close()
		g.listener.Close()
		return nil, err
	}
	if p.getenv("GOGC") == "" { // else it is the operator's to say
		g.pacer = startPacer(g.journal.Bytes)
	}
	g.server = server.New(server.Config{
		Echo:               &echo.Engine{Interval: f.EchoInterval},
		OpenAI:             upstream,
		DefaultModel:       f.Model,
		Journal:            g.journal,
		Log:                p.log,
		MaxDisconnectGrace: f.MaxDisconnectGrace,
		FirstTokenTimeout:  time.Duration(f.FirstTokenTimeout),
		IdleTimeout:        time.Duration(f.IdleTimeout),
		TotalTimeout:       time.Duration(f.TotalTimeout),
		Principal:          auth.Principal,
		Observer:           p.telemetry.Observer(),
		MaxConnectionAge:   time.Duration(f.MaxConnectionAge),
		Limits:             f.limits(),
		MaxBody:            int64(common.MaxBody),
		DecodeLimit:        limit,
	})
	c := &calls{log: p.log, telemetry: p.telemetry, auth: g.auth, limiter: f.limiter(auth.Principal)}
	g.interceptors.add(interceptors{unary: []grpc.UnaryServerInterceptor{c.unary}, stream: []grpc.StreamServerInterceptor{c.stream}}) // the outermost
	g.interceptors.add(p.interceptors)
	g.grpc, g.health = server.NewGRPCServer(g.server, time.Duration(common.WriteTimeout), append(common.limitGRPC(&f.grpcConnectionFlags, creds, p),
		grpc.ChainUnaryInterceptor(g.interceptors.unary...), grpc.ChainStreamInterceptor(g.interceptors.stream...))...)
	tellOutages(g.journal, g.health)
	if err := p.telemetry.Watch(g.server.Stats, g.journal.Bytes); err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

// openUpstream returns the engine in front of the OpenAI-compatible server, or nil if there
// is none.
func (g *grpcFace) openUpstream(p *program, f *serverFlags) (engine.Engine, error) {
	p.telemetry.KnowModel(f.Model)
	if f.OpenAIBaseURL == "" {
		return nil, nil
	}
	key, err := f.apiKey(p.getenv)
	if err != nil {
		return nil, err
	}
	g.hasKey = key != ""
	g.upstream, err = openai.New(openai.Config{
		BaseURL:        f.OpenAIBaseURL,
		Key:            key,
		APIType:        f.OpenAIAPIType,
		APIVersion:     f.OpenAIAPIVersion,
		ConnectTimeout: time.Duration(f.ConnectTimeout),
		Retries:        int(f.UpstreamRetries),
		OnRequest:      p.telemetry.Request,
		OnRetry:        p.telemetry.Retried,
	})
	if err != nil {
		return nil, err
	}
	p.telemetry.ListModels(g.upstream.Models)
	return g.upstream, nil
}

// openTLS reads the certificates, and returns what connections begin with.
func (g *grpcFace) openTLS(p *program, f *serverFlags, common *commonFlags) (credentials.TransportCredentials, error) {
	files, err := f.grpcFiles(&common.tlsFlags)
	if err != nil {
		return nil, err
	}
	f.clientCA = cmp.Or(files.CA, common.TLSClientCA) // the second, as the HTTP face may be in this process, too
	if g.tls, err = p.listenerTLS(files, "h2"); err != nil {
		return nil, err
	}
	if g.tls == nil {
		return insecure.NewCredentials(), nil
	}
	return g.tls.store.ServerCredentials(g.tls.config), nil
}

// listen listens, unless that were for strangers.
func (f *serverFlags) listen(common *commonFlags, p *program) (net.Listener, error) {
	l, err := common.listen("--grpc", f.GRPC, p)
	if err != nil {
		return nil, err
	}
	if err := f.checkOpen("--grpc", f.GRPC, l.Addr()); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (g *grpcFace) addr() address { return address{g.listener.Addr().String(), g.tls} }

func (g *grpcFace) listensOn() net.Addr { return g.listener.Addr() }

func (g *grpcFace) serve() error { return g.grpc.Serve(listenGRPC(g.listener)) }

func (g *grpcFace) announce() { g.health.Shutdown() }

func (g *grpcFace) drain(ctx context.Context) { g.server.Drain(ctx) }

func (g *grpcFace) shutdown(context.Context) {
	late := time.AfterFunc(lastRead, g.grpc.Stop)
	defer late.Stop()
	g.grpc.GracefulStop()
}

// close releases everything, after the shutdown or if nothing was ever served.
func (g *grpcFace) close() {
	g.grpc.Stop()
	g.listener.Close() // which g.grpc does only if it has served
	g.auth.Close()
	g.server.Close()
	g.journal.Close()
	if g.pacer != nil {
		g.pacer.stop()
	}
	if g.upstream != nil {
		g.upstream.Close()
	}
}
