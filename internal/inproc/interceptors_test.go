package inproc_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	testpb "google.golang.org/grpc/interop/grpc_testing"
)

// wrapped is a stream in the way of interceptors: it has another context, and is told of
// messages.
type wrapped struct {
	grpc.ServerStream
	ctx            context.Context
	received, sent func(any)
}

func (w *wrapped) Context() context.Context { return w.ctx }

func (w *wrapped) RecvMsg(m any) error {
	err := w.ServerStream.RecvMsg(m)
	if err == nil {
		w.received(m)
	}
	return err
}

func (w *wrapped) SendMsg(m any) error {
	w.sent(m)
	return w.ServerStream.SendMsg(m)
}

// Interceptors run around the handler in their order, and are told of the call.
func TestInterceptorsOrder(t *testing.T) {
	var log []string
	s := &service{
		unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			log = append(log, "handler")
			return answer("a"), nil
		},
		stream: func(_ *request, s serverStream) error {
			log = append(log, "handler")
			return send(s, "a")
		},
	}
	for i := range 3 {
		s.unaryInterceptors = append(s.unaryInterceptors, func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			question := string(req.(*testpb.SimpleRequest).GetPayload().GetBody())
			log = append(log, fmt.Sprint(i, " ", question, " ", info.FullMethod == unaryMethod, info.Server == s))
			resp, err := handler(ctx, req)
			log = append(log, fmt.Sprint(i, " ", string(resp.(*testpb.SimpleResponse).GetPayload().GetBody()), " ", err))
			return resp, err
		})
		s.streamInterceptors = append(s.streamInterceptors, func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			log = append(log, fmt.Sprint(i, " ", info.FullMethod == streamMethod, srv == s, info.IsServerStream, info.IsClientStream))
			err := handler(srv, ss)
			log = append(log, fmt.Sprint(i, " ", err))
			return err
		})
	}
	everywhere(t, s, func(t *testing.T, c client) {
		log = nil
		if got := c.callUnary(t.Context()); got.String() != `"a" OK` {
			t.Errorf("got %s", got)
		}
		want := "0 question true true, 1 question true true, 2 question true true, handler, 2 a <nil>, 1 a <nil>, 0 a <nil>"
		if got := strings.Join(log, ", "); got != want {
			t.Errorf("a unary call: got  %s\nwant %s", got, want)
		}
		log = nil
		if got := c.callStream(t.Context(), &outcome{}); got.String() != `"a" OK` {
			t.Errorf("got %s", got)
		}
		want = "0 true true true false, 1 true true true false, 2 true true true false, handler, 2 <nil>, 1 <nil>, 0 <nil>"
		if got := strings.Join(log, ", "); got != want {
			t.Errorf("a stream: got  %s\nwant %s", got, want)
		}
		log = nil
		_ = c.Invoke(t.Context(), unaryMethod+"s", &testpb.SimpleRequest{}, &testpb.SimpleResponse{})
		_ = c.stream(t.Context(), streamMethod+"s", &request{}, &outcome{})
		if log != nil {
			t.Errorf("for unknown methods: %s", log)
		}
	})
}

// What an interceptor can do to a unary call.
func TestUnaryInterceptors(t *testing.T) {
	mine := errors.New("mine")
	for _, tt := range []struct {
		name, want string
		intercept  grpc.UnaryServerInterceptor
	}{
		{"another context", `"changed question" OK`, func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			return handler(context.WithValue(ctx, contextKey{}, "changed"), req)
		}},
		{"another request", `"none other" OK`, func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			return handler(ctx, &testpb.SimpleRequest{Payload: body("other")})
		}},
		{"another answer", `"other" OK`, func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			_, err := handler(ctx, req)
			return answer("other"), err
		}},
		{"another error", `NotFound: changed`, func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if _, err := handler(ctx, &testpb.SimpleRequest{Payload: body("fail")}); err != mine {
				return nil, err
			}
			return nil, status.Error(codes.NotFound, "changed")
		}},
		{"no error", `"instead" OK`, func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			_, _ = handler(ctx, &testpb.SimpleRequest{Payload: body("fail")})
			return answer("instead"), nil
		}},
		{"refused", `PermissionDenied: no`, func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
			return nil, status.Error(codes.PermissionDenied, "no")
		}},
		{"answered", `"cached" OK`, func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
			return answer("cached"), nil
		}},
		{"neither answer nor error", `"" OK`, func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
			return nil, nil
		}},
		{"an answer of another kind", `Internal`, func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
			return "a", nil
		}},
		{"metadata", `header[x-a=["1"]] "none question" trailer[x-b=["2"]] OK`, func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if err := errors.Join(grpc.SetHeader(ctx, metadata.Pairs("x-a", "1")), grpc.SetTrailer(ctx, metadata.Pairs("x-b", "2"))); err != nil {
				return nil, err
			}
			return handler(ctx, req)
		}},
		{"a panic", `Internal`, func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
			defer func() { err = status.Errorf(codes.Internal, "it panicked: %v", recover()) }()
			return handler(ctx, &testpb.SimpleRequest{Payload: body("panic")})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			everywhere(t, &service{
				unaryInterceptors: []grpc.UnaryServerInterceptor{tt.intercept},
				unary: func(ctx context.Context, req *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
					switch question := string(req.GetPayload().GetBody()); question {
					case "fail":
						return nil, mine
					case "panic":
						panic("so")
					default:
						changed, ok := ctx.Value(contextKey{}).(string)
						if !ok {
							changed = "none"
						}
						return answer(changed + " " + question), nil
					}
				},
			}, func(t *testing.T, c client) {
				if got := c.callUnary(t.Context()); got.String() != tt.want {
					t.Errorf("got  %s\nwant %s", got, tt.want)
				}
			})
		})
	}
}

// What an interceptor can do to a stream.
func TestStreamInterceptors(t *testing.T) {
	mine := errors.New("mine")
	nothing := func(any) {}
	for _, tt := range []struct {
		name, want string
		intercept  grpc.StreamServerInterceptor
	}{
		{"another context", `"changed question" "b" OK`, func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(srv, &wrapped{ss, context.WithValue(ss.Context(), contextKey{}, "changed"), nothing, nothing})
		}},
		{"another request, and messages", `"none other, seen" "b, seen" OK`, func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(srv, &wrapped{ss, ss.Context(), func(m any) {
				m.(*request).Payload.Body = []byte("other")
			}, func(m any) {
				p := m.(*response).Payload
				p.Body = append(p.Body, ", seen"...)
			}})
		}},
		{"messages of its own", `"before" "none question" "b" "after" OK`, func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return errors.Join(send(ss, "before"), handler(srv, ss), send(ss, "after"))
		}},
		{"another error", `NotFound: changed`, func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			err := handler(srv, &wrapped{ss, ss.Context(), func(m any) { m.(*request).Payload = body("fail") }, nothing})
			if err != mine {
				return err
			}
			return status.Error(codes.NotFound, "changed")
		}},
		{"refused", `PermissionDenied: no`, func(any, grpc.ServerStream, *grpc.StreamServerInfo, grpc.StreamHandler) error {
			return status.Error(codes.PermissionDenied, "no")
		}},
		{"refused after the request", `PermissionDenied: question`, func(_ any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, _ grpc.StreamHandler) error {
			var req request
			if err := ss.RecvMsg(&req); err != nil {
				return err
			}
			return status.Error(codes.PermissionDenied, string(req.Payload.Body))
		}},
		{"metadata", `header[x-a=["1"]] "none question" "b" trailer[x-b=["2"]] OK`, func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			ss.SetTrailer(metadata.Pairs("x-b", "2"))
			if err := ss.SetHeader(metadata.Pairs("x-a", "1")); err != nil {
				return err
			}
			return handler(srv, ss)
		}},
		{"a panic", `Internal`, func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
			defer func() { err = status.Errorf(codes.Internal, "it panicked: %v", recover()) }()
			return handler(srv, &wrapped{ss, ss.Context(), func(m any) { m.(*request).Payload = body("panic") }, nothing})
		}},
		{"gone before its handler", `ResourceExhausted: enough`, func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			go func() {
				_ = handler(srv, &wrapped{ss, ss.Context(), func(m any) { m.(*request).Payload = body("wait") }, nothing})
			}()
			return status.Error(codes.ResourceExhausted, "enough")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			everywhere(t, &service{
				streamInterceptors: []grpc.StreamServerInterceptor{tt.intercept},
				stream: func(req *request, s serverStream) error {
					changed, ok := s.Context().Value(contextKey{}).(string)
					if !ok {
						changed = "none"
					}
					switch question := string(req.GetPayload().GetBody()); question {
					case "fail":
						return mine
					case "panic":
						panic("so")
					case "wait":
						<-s.Context().Done()
						if send(s, "a") == nil {
							t.Error("it can send")
						}
						return nil
					default:
						return send(s, changed+" "+question, "b")
					}
				},
			}, func(t *testing.T, c client) {
				if got := c.callStream(t.Context(), &outcome{}); got.String() != tt.want {
					t.Errorf("got  %s\nwant %s", got, tt.want)
				}
			})
		})
	}
}
