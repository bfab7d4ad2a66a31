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

// A Script is an engine.Engine, whose completions are played by a function: the fake
// that package engine names. What it emits in one call is ready at once; when that
// has been taken, the script goes on, on the goroutine that waits in Next. It may
// wait there for as long as its context is not done. Its error is the completion's
// end; nil is the end that the chunks have told.
//
// As with the real engines, a chunk belongs to the stream again at the next call:
// what it held is then written over, so that a caller that keeps it is found out.
type Script func(ctx context.Context, emit func(ready ...*engine.Chunk) error) error

// errClosed ends a script whose stream has been closed.
var errClosed = errors.New("the stream is closed")

// Models implements engine.Engine: there is the model "m".
func (Script) Models(context.Context) ([]string, error) { return []string{"m"}, nil }

// Generate implements engine.Engine. The script begins at the first Next that waits.
func (s Script) Generate(ctx context.Context, _ *completionv1.CompletionRequest) engine.Stream {
	p := &played{ctx: ctx}
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

// played is the stream of a script.
type played struct {
	ctx   context.Context
	next  func() ([]*engine.Chunk, error, bool)
	stop  func()
	ready []*engine.Chunk

	// Of the chunk that was returned last.
	chunk engine.Chunk
	usage completionv1.Usage
	lent  [][]byte // the bytes of its strings
}

func (p *played) Next(wait bool) (*engine.Chunk, error) {
	p.takeBack()
	if p.ctx.Err() != nil {
		return nil, context.Cause(p.ctx)
	}
	if len(p.ready) == 0 {
		if !wait {
			return nil, nil
		}
		var err error
		if p.ready, err, _ = p.next(); err != nil {
			return nil, err
		}
	}
	c := p.ready[0]
	p.ready = p.ready[1:]
	return p.lend(c), nil
}

func (p *played) Close() {
	p.takeBack()
	p.stop()
}

// lend returns a copy of a chunk in memory that is the stream's.
func (p *played) lend(c *engine.Chunk) *engine.Chunk {
	p.chunk = engine.Chunk{Model: c.Model, FinishReason: c.FinishReason}
	if c.Usage != nil {
		proto.Reset(&p.usage)
		proto.Merge(&p.usage, c.Usage)
		p.chunk.Usage = &p.usage
	}
	if c.Delta != nil {
		p.chunk.Delta = proto.CloneOf(c.Delta)
		p.lendStrings(p.chunk.Delta.ProtoReflect())
	}
	return &p.chunk
}

// lendStrings puts a message's strings into memory that takeBack writes over.
func (p *played) lendStrings(m protoreflect.Message) {
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case field.IsMap():
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				if _, ok := v.Interface().(protoreflect.Message); ok {
					p.lendStrings(v.Message())
				}
				return true
			})
		case field.IsList() && field.Message() != nil:
			for i := range v.List().Len() {
				p.lendStrings(v.List().Get(i).Message())
			}
		case field.IsList():
		case field.Message() != nil:
			p.lendStrings(v.Message())
		case field.Kind() == protoreflect.StringKind && v.String() != "":
			b := []byte(v.String())
			p.lent = append(p.lent, b)
			m.Set(field, protoreflect.ValueOfString(unsafe.String(&b[0], len(b))))
		}
		return true
	})
}

// takeBack writes over what the last chunk held.
func (p *played) takeBack() {
	for _, b := range p.lent {
		for i := range b {
			b[i] = '#'
		}
	}
	p.lent, p.chunk = nil, engine.Chunk{}
}
