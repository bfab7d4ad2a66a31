package inproc_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	testpb "google.golang.org/grpc/interop/grpc_testing"
)

func TestStreams(t *testing.T) {
	a := metadata.Pairs("x-a", "1", "X-A", "2", "x-b-bin", "\x00\xff")
	for _, tt := range []struct {
		name string
		play func(serverStream) error
		want string
	}{
		{"nothing", func(s serverStream) error { return nil }, `OK`},
		{"messages", func(s serverStream) error { return send(s, "a", "b", "c") }, `"a" "b" "c" OK`},
		{"messages and an error", func(s serverStream) error {
			return cmp.Or(send(s, "a"), send(s, "b"), status.Error(codes.DataLoss, "over"))
		}, `"a" "b" DataLoss: over`},
		{"an empty message", func(s serverStream) error { return s.Send(&response{}) }, `"" OK`},
		{"no message at all", func(s serverStream) error { return s.SendMsg(nil) }, `"" OK`},
		{"a message that is nil", func(s serverStream) error { return s.Send(nil) }, `"" OK`},
		{"a large message", func(s serverStream) error { return send(s, strings.Repeat("x", 3<<20), "a") },
			`"` + strings.Repeat("x", 80) + `" "a" OK`},
		{"another thing", func(s serverStream) error {
			if err := s.SendMsg(1); status.Code(err) != codes.Internal {
				return err
			}
			return nil
		}, `Internal`},

		{"a header", func(s serverStream) error { return s.SendHeader(a) }, `header[x-a=["1" "2"] x-b-bin=["\x00\xff"]] OK`},
		{"a header that is set", func(s serverStream) error { return s.SetHeader(a) }, `header[x-a=["1" "2"] x-b-bin=["\x00\xff"]] OK`},
		{"a header by the context", func(s serverStream) error { return grpc.SetHeader(s.Context(), metadata.Pairs("x-a", "1")) }, `header[x-a=["1"]] OK`},
		{"a header, sent by the context", func(s serverStream) error {
			return errors.Join(grpc.SendHeader(s.Context(), metadata.Pairs("x-a", "1")), send(s, "a"))
		}, `header[x-a=["1"]] "a" OK`},
		{"a header in pieces", func(s serverStream) error {
			return errors.Join(s.SetHeader(metadata.Pairs("x-a", "1")), s.SetHeader(nil), s.SendHeader(metadata.Pairs("x-a", "2", "x-b", "3")), send(s, "a"))
		}, `header[x-a=["1" "2"] x-b=["3"]] "a" OK`},
		{"a header with the first message", func(s serverStream) error {
			return errors.Join(s.SetHeader(metadata.Pairs("x-a", "1")), send(s, "a"))
		}, `header[x-a=["1"]] "a" OK`},
		{"a header and an error", func(s serverStream) error {
			return cmp.Or(s.SetHeader(metadata.Pairs("x-a", "1")), status.Error(codes.DataLoss, "over"))
		}, `header[x-a=["1"]] DataLoss: over`},
		{"a header after the header", func(s serverStream) error {
			_ = s.SendHeader(metadata.Pairs("x-a", "1"))
			return send(s, fmt.Sprint(status.Code(s.SendHeader(nil)), status.Code(s.SetHeader(metadata.Pairs("x-b", "1")))))
		}, `header[x-a=["1"]] "Internal Internal" OK`},
		{"a header after a message", func(s serverStream) error {
			_ = send(s, "a")
			return send(s, fmt.Sprint(status.Code(s.SetHeader(metadata.Pairs("x-a", "1")))))
		}, `"a" "Internal" OK`},
		{"a header that none can be", func(s serverStream) error {
			return send(s, fmt.Sprint(status.Code(s.SetHeader(metadata.Pairs("x-a", "é"))), status.Code(s.SendHeader(metadata.Pairs("x a", "1")))))
		}, `"Internal Internal" OK`},

		{"a trailer", func(s serverStream) error {
			s.SetTrailer(metadata.Pairs("x-a", "1"))
			err := errors.Join(grpc.SetTrailer(s.Context(), metadata.Pairs("x-b", "2")), send(s, "a"))
			s.SetTrailer(metadata.Pairs("x-a", "3"))
			return err
		}, `"a" trailer[x-a=["1" "3"] x-b=["2"]] OK`},
		{"a trailer and an error", func(s serverStream) error {
			s.SetTrailer(metadata.Pairs("x-a", "1"))
			return status.Error(codes.DataLoss, "over")
		}, `trailer[x-a=["1"]] DataLoss: over`},

		{"the request comes once", func(s serverStream) error {
			return send(s, fmt.Sprint(s.RecvMsg(&request{}) == io.EOF))
		}, `"true" OK`},
		{"what the context knows", func(s serverStream) error { return send(s, known(s.Context())) },
			`"` + streamMethod + ` a peer" OK`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			everywhere(t, &service{stream: func(req *request, s serverStream) error {
				if string(req.GetPayload().GetBody()) != "question" {
					return fmt.Errorf("the request is %v", req)
				}
				return tt.play(s)
			}}, func(t *testing.T, c client) {
				got := c.callStream(t.Context(), &outcome{})
				if got.String() != tt.want {
					t.Errorf("got  %s\nwant %s", got, tt.want)
				}
			})
		})
	}
}

// known says what a handler finds in its context besides metadata.
func known(ctx context.Context) string {
	method, _ := grpc.Method(ctx)
	p, ok := peer.FromContext(ctx)
	if ok && p.Addr.String() != "" && p.LocalAddr.Network() != "" {
		method += " a peer"
	}
	if _, ok := metadata.FromOutgoingContext(ctx); ok || ctx.Value(contextKey{}) != nil {
		method += " the client's"
	}
	return method
}

type contextKey struct{}

func TestUnary(t *testing.T) {
	for _, tt := range []struct {
		name string
		play func(context.Context) (*testpb.SimpleResponse, error)
		want string
	}{
		{"an answer", func(context.Context) (*testpb.SimpleResponse, error) { return answer("a"), nil }, `"a" OK`},
		{"an empty answer", func(context.Context) (*testpb.SimpleResponse, error) { return &testpb.SimpleResponse{}, nil }, `"" OK`},
		{"an answer that is nil", func(context.Context) (*testpb.SimpleResponse, error) { return nil, nil }, `"" OK`},
		{"a large answer", func(context.Context) (*testpb.SimpleResponse, error) { return answer(strings.Repeat("x", 3<<20)), nil },
			`"` + strings.Repeat("x", 80) + `" OK`},
		{"an error, not the answer", func(context.Context) (*testpb.SimpleResponse, error) {
			return answer("a"), status.Error(codes.DataLoss, "over")
		}, `DataLoss: over`},
		{"metadata", func(ctx context.Context) (*testpb.SimpleResponse, error) {
			return answer("a"), errors.Join(grpc.SetHeader(ctx, metadata.Pairs("x-a", "1")), grpc.SendHeader(ctx, metadata.Pairs("x-a", "2")),
				grpc.SetTrailer(ctx, metadata.Pairs("x-b-bin", "\xff")))
		}, `header[x-a=["1" "2"]] "a" trailer[x-b-bin=["\xff"]] OK`},
		{"metadata and an error", func(ctx context.Context) (*testpb.SimpleResponse, error) {
			_ = grpc.SetHeader(ctx, metadata.Pairs("x-a", "1"))
			_ = grpc.SetTrailer(ctx, metadata.Pairs("x-b", "2"))
			return nil, status.Error(codes.DataLoss, "over")
		}, `header[x-a=["1"]] trailer[x-b=["2"]] DataLoss: over`},
		{"a header after the header", func(ctx context.Context) (*testpb.SimpleResponse, error) {
			_ = grpc.SendHeader(ctx, metadata.Pairs("x-a", "1"))
			return answer(fmt.Sprint(grpc.SetHeader(ctx, metadata.Pairs("x-a", "2")) != nil, grpc.SendHeader(ctx, nil) != nil)), nil
		}, `header[x-a=["1"]] "true true" OK`},
		{"what the context knows", func(ctx context.Context) (*testpb.SimpleResponse, error) { return answer(known(ctx)), nil },
			`"` + unaryMethod + ` a peer" OK`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			everywhere(t, &service{unary: func(ctx context.Context, req *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
				if string(req.GetPayload().GetBody()) != "question" {
					return nil, fmt.Errorf("the request is %v", req)
				}
				return tt.play(ctx)
			}}, func(t *testing.T, c client) {
				if got := c.callUnary(context.WithValue(t.Context(), contextKey{}, 1)); got.String() != tt.want {
					t.Errorf("got  %s\nwant %s", got, tt.want)
				}
			})
		})
	}
}

// A unary call's messages are copied: neither side sees what the other one changes.
func TestUnaryMessagesAreCopied(t *testing.T) {
	kept := answer("a")
	everywhere(t, &service{unary: func(_ context.Context, req *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
		req.Payload.Body[0] = 'Q'
		return kept, nil
	}}, func(t *testing.T, c client) {
		req, reply := &testpb.SimpleRequest{Payload: body("question")}, answer("of before")
		reply.Username = "of before"
		err := c.Invoke(t.Context(), unaryMethod, req, reply)
		if err != nil || string(req.Payload.Body) != "question" || !proto.Equal(reply, kept) {
			t.Errorf("got %v, %v; the request is %v", reply, err, req)
		}
		reply.Payload.Body[0] = 'A'
		if string(kept.Payload.Body) != "a" {
			t.Error("the handler's answer is changed")
		}
	})
}

// odd is an error with a status that nobody should give it.
type odd struct{ *status.Status }

func (odd) Error() string                { return "odd" }
func (o odd) GRPCStatus() *status.Status { return o.Status }

// An error of a handler is the same status to its client.
func TestErrors(t *testing.T) {
	detailed, err := status.New(codes.NotFound, "no such thing").WithDetails(&errdetails.ErrorInfo{Reason: "GONE"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"with details", detailed.Err(), `NotFound: no such thing (reason:"GONE")`},
		{"wrapped", fmt.Errorf("look: %w", detailed.Err()), `NotFound: look: rpc error: code = NotFound desc = no such thing (reason:"GONE")`},
		{"joined", errors.Join(errors.New("look"), detailed.Err()), "NotFound: look\nrpc error: code = NotFound desc = no such thing (reason:\"GONE\")"},
		{"no status", errors.New("broken"), `Unknown: broken`},
		{"the end", io.EOF, `Unknown: EOF`},
		{"cancelled", context.Canceled, `Canceled: context canceled`},
		{"too late", fmt.Errorf("look: %w", context.DeadlineExceeded), `DeadlineExceeded: look: context deadline exceeded`},
		{"no message", status.Error(codes.Aborted, ""), `Aborted`},
		{"in other words", status.Error(codes.Aborted, "é%\n世界"), "Aborted: é%\n世界"},
		{"with an odd code", status.Error(99, "odd"), `Code(99): odd`},
		{"without a status", odd{}, `Unknown: odd`},
		{"that is none", odd{status.New(codes.OK, "")}, ``},
	} {
		t.Run(tt.name, func(t *testing.T) {
			everywhere(t, &service{
				stream: func(*request, serverStream) error { return tt.err },
				unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
					return answer("a"), tt.err
				},
			}, func(t *testing.T, c client) {
				stream, unary := c.callStream(t.Context(), &outcome{}).String(), c.callUnary(t.Context()).String()
				wantStream, wantUnary := tt.want, tt.want
				if tt.want == "" {
					wantStream = `OK`
					wantUnary = `Internal`
				}
				if strings.ReplaceAll(stream, "  ", " ") != wantStream || strings.ReplaceAll(unary, "  ", " ") != wantUnary {
					t.Errorf("a stream: got  %s\nwant %s\na unary call: got  %s\nwant %s", stream, wantStream, unary, wantUnary)
				}
			})
		})
	}
}

func TestUnknownMethods(t *testing.T) {
	everywhere(t, &service{}, func(t *testing.T, c client) {
		for _, method := range []string{"/grpc.testing.TestService/No", "/no.Service/UnaryCall", "no", "/", ""} {
			if err := c.Invoke(t.Context(), method, &testpb.SimpleRequest{}, &testpb.SimpleResponse{}); status.Code(err) != codes.Unimplemented {
				t.Errorf("%q: %v", method, err)
			}
			if err := c.stream(t.Context(), method, &testpb.SimpleRequest{}, &outcome{}); status.Code(err) != codes.Unimplemented {
				t.Errorf("%q: a stream: %v", method, err)
			}
		}
		for _, method := range []string{testpb.TestService_EmptyCall_FullMethodName} {
			if err := c.Invoke(t.Context(), method, &testpb.Empty{}, &testpb.Empty{}); status.Code(err) != codes.Unimplemented {
				t.Errorf("%q: %v", method, err)
			}
		}
	})
}

// What a client sends of metadata, and what it may not send.
func TestRequestMetadata(t *testing.T) {
	say := func(ctx context.Context) string {
		md, ok := metadata.FromIncomingContext(ctx)
		return fmt.Sprintf("%s%v %v", mine("", md), ok, len(md["grpc-timeout"])+len(md["te"])+len(md["grpc-status"]))
	}
	service := &service{
		stream: func(_ *request, s serverStream) error { return send(s, say(s.Context())) },
		unary: func(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			return answer(say(ctx)), nil
		},
	}
	for _, tt := range []struct {
		name, want string
		md         []string
	}{
		{"none", `"true 0" OK`, nil},
		{"any", `"[x-a=[\"1\" \"2\"] x-b-bin=[\"\\x00\\xff\"]] true 0" OK`, []string{"x-a", "1", "X-A", "2", "x-b-bin", "\x00\xff"}},
		{"of gRPC's own", `"true 0" OK`, []string{"grpc-timeout", "1S", "te", "x", "grpc-status", "1"}},
		{"an impossible value", `Internal`, []string{"x-a", "é"}},
		{"a line", `Internal`, []string{"x-a", "1\n"}},
		{"an impossible key", `Internal`, []string{"x a", "1"}},
		{"no key", `Internal`, []string{"", "1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			everywhere(t, service, func(t *testing.T, c client) {
				ctx := t.Context()
				if tt.md != nil {
					ctx = metadata.NewOutgoingContext(ctx, metadata.Pairs(tt.md...))
				}
				stream, unary := c.callStream(ctx, &outcome{}).String(), c.callUnary(ctx).String()
				if stream != tt.want || unary != tt.want {
					t.Errorf("got  %s\nand  %s\nwant %s", stream, unary, tt.want)
				}
			})
		})
	}
}
