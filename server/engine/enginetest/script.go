package enginetest

import (
	"context"
	"errors"
	"io"
	"iter"
	"unsafe"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
)

// Script is a fake engine.Engine for tests, whose completions are produced by a function.
// The chunks of one call of emit are ready at once. When they have been read, the function
// continues, on the goroutine of a Next that waits. It may block until its context is
// done. Its error ends the stream; nil ends it with io.EOF.
//
// As with a real engine, a chunk is valid until the next call: then its strings are
// overwritten, so that a test finds out if they are still used.
type Script func(ctx context.Context, emit func(ready ...*engine.Chunk) error) error

// errClosed is what emit returns when the stream has been closed.
var errClosed = errors.New("the stream is closed")

// Models implements engine.Engine. There is one model, "m".
func (Script) Models(context.Context) ([]string, error) { return []string{"m"}, nil }

// Generate implements engine.Engine. The function is called by the first Next that waits.
func (s Script) Generate(ctx context.Context, _ *completionv1.CompletionRequest) engine.Stream {
	p := &scriptStream{ctx: ctx}
	p.next, p.stop = iter.Pull2(func(yield func([]*engine.Chunk, error) bool) {
		err := s(ctx, func(ready ...*engine.Chunk) error {
			if len(ready) > 0 && !yield(ready, nil) {
				return errClosed
			}
			return nil
		})
		if err == nil {
			err = io.EOF
		}
		yield(nil, err)
	})
	return p
}

// scriptStream is the stream of a Script.
type scriptStream struct {
	ctx   context.Context
	next  func() ([]*engine.Chunk, error, bool)
	stop  func()
	ready []*engine.Chunk

	// The chunk that was returned last.
	chunk engine.Chunk
	usage completionv1.Usage
	lent  [][]byte // its strings
}

func (s *scriptStream) Next(wait bool) (*engine.Chunk, error) {
	s.reclaim()
	if s.ctx.Err() != nil {
		return nil, context.Cause(s.ctx)
	}
	if len(s.ready) == 0 {
		if !wait {
			return nil, nil
		}
		var err error
		if s.ready, err, _ = s.next(); err != nil {
			return nil, err
		}
	}
	c := s.ready[0]
	s.ready = s.ready[1:]
	return s.lend(c), nil
}

func (s *scriptStream) Close() {
	s.reclaim()
	s.stop()
}

// lend returns a copy of a chunk whose strings can be overwritten by reclaim.
func (s *scriptStream) lend(c *engine.Chunk) *engine.Chunk {
	s.chunk = engine.Chunk{Model: c.Model, FinishReason: c.FinishReason}
	if c.Usage != nil {
		proto.Reset(&s.usage)
		proto.Merge(&s.usage, c.Usage)
		s.chunk.Usage = &s.usage
	}
	if c.Delta != nil {
		s.chunk.Delta = proto.CloneOf(c.Delta)
		s.lendStrings(s.chunk.Delta.ProtoReflect())
	}
	return &s.chunk
}

// lendStrings replaces the strings of a message by copies that can be overwritten.
func (s *scriptStream) lendStrings(m protoreflect.Message) {
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case field.IsMap():
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				if _, ok := v.Interface().(protoreflect.Message); ok {
					s.lendStrings(v.Message())
				}
				return true
			})
		case field.IsList() && field.Message() != nil:
			for i := range v.List().Len() {
				s.lendStrings(v.List().Get(i).Message())
			}
		case field.IsList():
		case field.Message() != nil:
			s.lendStrings(v.Message())
		case field.Kind() == protoreflect.StringKind && v.String() != "":
			b := []byte(v.String())
			s.lent = append(s.lent, b)
			m.Set(field, protoreflect.ValueOfString(unsafe.String(&b[0], len(b))))
		}
		return true
	})
}

// reclaim overwrites the strings of the last chunk.
func (s *scriptStream) reclaim() {
	for _, b := range s.lent {
		for i := range b {
			b[i] = '#'
		}
	}
	s.lent, s.chunk = nil, engine.Chunk{}
}
