package server

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/failure"
)

// maxReceived is the most bytes that are received of a request to be refused with a
// status of ours, and not by grpc-go.
const maxReceived = 32 << 20

// streamWindow is how many bytes a client may send of a request that nobody receives yet,
// as of one whose caller is not known. grpc-go would go up to 16 MiB, on a fast network.
const streamWindow = 64 << 10

// connWindow is how many it may send on all streams of a connection until they are taken
// from there, which never takes long.
const connWindow = 1 << 20

// idleTimeout is for how long a connection is kept on which there is no call: as over HTTP.
// Anybody can make one. A client makes another when it calls, and a bridge has a call all the
// time, which watches the health.
const idleTimeout = 2 * time.Minute

// NewGRPCServer returns a gRPC server on which s, the health service and reflection
// are registered, and the health service. A reader that takes nothing for
// writeTimeout is let go with SLOW_READER.
//
// Chained interceptors among the options see what they do over an in-process connection,
// such as SLOW_READER as the error that a handler returns. But they run before the request
// is received: those of unary methods have an empty message, which is filled in when they
// call the handler.
func NewGRPCServer(s *Server, writeTimeout time.Duration, opts ...grpc.ServerOption) (*grpc.Server, *health.Server) {
	d := newDecoder(s.config.MaxBody, s.config.DecodeLimit)
	g := grpc.NewServer(append(opts,
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxRecvMsgSize(max(maxReceived, 2*d.bytes)),
		grpc.InitialWindowSize(streamWindow),
		grpc.InitialConnWindowSize(connWindow),
		//lint:ignore SA1019 one that is registered would be every client's of the program, too
		grpc.RPCDecompressor(compressed{}),
		grpc.StreamInterceptor(streams(d, writeTimeout)), // before those that are chained,
		grpc.KeepaliveParams(keepalive.ServerParameters{
			// A reader whose machine is gone says nothing: ping it, and stop paying.
			Time: 20 * time.Second, Timeout: 10 * time.Second,
			MaxConnectionIdle: idleTimeout,
			// No stream is cut for its connection's age: none runs for so long, and who
			// still reads then takes next to nothing, and can resume.
			MaxConnectionAge: s.config.MaxConnectionAge, MaxConnectionAgeGrace: 2*s.config.TotalTimeout + time.Minute,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	)...)
	services := registrar{g, d}
	completionv1.RegisterCompletionServiceServer(services, s)
	h := health.NewServer()
	h.SetServingStatus(completionv1.CompletionService_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(services, &watchedHealth{Server: h, of: map[string]int{}, ofHost: map[string]int{}})
	reflection.Register(services)
	return g, h
}

// streams decodes the requests of streams, and ends those streams of events whose
// reader takes nothing for the timeout.
//
// SendMsg waits for the reader's flow control for ever, and only the handler's
// return ends it. So the handler runs in a goroutine of its own, and the stream
// ends when it returns or is found to be stuck; in the latter case, the stream's
// end wakes the handler with an error, and it returns soon after. Interceptors, which
// need not expect a handler that goes on after it has returned, are in that goroutine, too.
func streams(d *decoder, timeout time.Duration) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		decoding := decodingStream{ss, d}
		if info.FullMethod != completionv1.CompletionService_StreamCompletion_FullMethodName &&
			info.FullMethod != completionv1.CompletionService_ResumeCompletion_FullMethodName {
			return handler(srv, &decoding)
		}
		sendAsIs(ss.Context())
		w := &watchedStream{decodingStream: decoding, timeout: timeout, timer: time.NewTimer(timeout)}
		w.timer.Stop()
		done := make(chan error, 1)
		go func() { done <- handler(srv, w) }()
		select {
		case err := <-done:
			return err
		case <-w.timer.C:
			w.slow.Store(true)
			return w.slowReader()
		}
	}
}

// sendAsIs has the events of a stream go as they are to a client that compresses its
// requests, too. grpc-go would compress them likewise where a bridge has registered gzip:
// each by itself, which makes most of them longer, and for each reader anew.
func sendAsIs(ctx context.Context) {
	s, ok := grpc.ServerTransportStreamFromContext(ctx).(interface{ RecvCompress() string })
	if ok && s.RecvCompress() != "" { // else a header would say so
		_ = grpc.SetSendCompressor(ctx, encoding.Identity) // which fails when the stream is over
	}
}

// watchedStream runs its timer while a message waits to be sent.
type watchedStream struct {
	decodingStream
	timeout time.Duration
	timer   *time.Timer
	slow    atomic.Bool // the reader is let go
}

func (w *watchedStream) SendMsg(m any) error {
	w.timer.Reset(w.timeout)
	defer w.timer.Stop()
	err := w.ServerStream.SendMsg(m)
	if err != nil && w.slow.Load() {
		return w.slowReader() // not that the stream is over
	}
	return err
}

func (w *watchedStream) slowReader() error {
	return failure.New(failure.SlowReader, "the reader took nothing for %v: resume when it can", w.timeout)
}
