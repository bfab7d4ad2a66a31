package server

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/journal"
)

// assemble puts a completion together from what a way to read the journal gives of it:
// what is there, or all up to its end.
func (s *Server) assemble(ctx context.Context, info journal.Info, read readFunc) (*completionv1.Completion, error) {
	r, err := read(ctx, info.ID, 0)
	if err != nil {
		return nil, journalFailure(ctx, err)
	}
	defer r.Close()
	a := newAssembly(info.Completion)
	if err := s.readAll(ctx, info.ID, r, a); err != nil {
		return nil, err
	}
	return a.result(), nil
}

// readFunc is journal.Journal's Read or Follow.
type readFunc func(ctx context.Context, id string, after int32) (journal.Reader, error)

// assembly is a completion as its deltas are put together, in time in proportion to
// what they hold. It is the receiver of unary calls.
type assembly struct {
	completion               *completionv1.Completion
	text, reasoning, refusal strings.Builder
	calls                    []*toolCall
	byIndex                  map[int32]*toolCall
	extra                    extras
	event                    completionv1.CompletionEvent // used again
}

type toolCall struct {
	call            *completionv1.ToolCall
	name, arguments strings.Builder
	extra           extras
}

func newAssembly(c journal.Completion) *assembly {
	return &assembly{completion: &completionv1.Completion{
		Id:         c.ID,
		Model:      c.Model,
		State:      completionv1.Completion_RUNNING,
		CreateTime: timestamppb.New(c.CreateTime),
	}}
}

// begin names the completion in the call's header.
func (a *assembly) begin(ctx context.Context) error {
	return grpc.SetHeader(ctx, completionID(a.completion.GetId()))
}

// receive applies the next entries. A failure is part of the completion.
func (a *assembly) receive(entries []journal.Entry) error {
	for _, e := range entries {
		if err := a.add(e); err != nil {
			return fmt.Errorf("read the journal: %w", err)
		}
	}
	return nil
}

// add applies the next entry.
func (a *assembly) add(e journal.Entry) error {
	c := a.completion
	c.LastSequence = e.Sequence
	if e.Kind == journal.Failed {
		st, err := failedStatus(e)
		c.State, c.Error = completionv1.Completion_FAILED, st
		return err
	}
	if err := proto.Unmarshal(e.Data, &a.event); err != nil {
		return err
	}
	switch event := a.event.GetEvent().(type) {
	case *completionv1.CompletionEvent_Created:
		c.Model, c.CreateTime = event.Created.GetModel(), event.Created.GetCreateTime()
	case *completionv1.CompletionEvent_Delta:
		a.text.WriteString(event.Delta.GetText())
		a.reasoning.WriteString(event.Delta.GetReasoning())
		a.refusal.WriteString(event.Delta.GetRefusal())
		for _, piece := range event.Delta.GetToolCalls() {
			a.addToolCall(piece)
		}
		c.Parts = append(c.Parts, event.Delta.GetParts()...)
		a.addLogprobs(event.Delta.GetLogprobs())
		a.extra.add(event.Delta.GetExtra())
	case *completionv1.CompletionEvent_Finished:
		c.State = completionv1.Completion_FINISHED
		if event.Finished.GetFinishReason() == completionv1.Finished_CANCELLED {
			c.State = completionv1.Completion_CANCELLED
		}
		c.FinishReason, c.Usage = event.Finished.GetFinishReason(), event.Finished.GetUsage()
	}
	return nil
}

// addToolCall joins a piece to the call with its index. A call's first id is its own:
// the history names the call by it. Its name may come in pieces.
func (a *assembly) addToolCall(piece *completionv1.ToolCall) {
	t := a.byIndex[piece.GetIndex()]
	if t == nil {
		t = &toolCall{call: &completionv1.ToolCall{Index: proto.Int32(piece.GetIndex())}}
		a.calls = append(a.calls, t)
		if a.byIndex == nil {
			a.byIndex = map[int32]*toolCall{}
		}
		a.byIndex[piece.GetIndex()] = t
	}
	if t.call.Id == "" {
		t.call.Id = piece.GetId()
	}
	t.name.WriteString(piece.GetName())
	t.arguments.WriteString(piece.GetArguments())
	t.extra.add(piece.GetExtra())
}

func (a *assembly) addLogprobs(p *completionv1.Logprobs) {
	if p == nil {
		return
	}
	if a.completion.Logprobs == nil {
		a.completion.Logprobs = &completionv1.Logprobs{}
	}
	have := a.completion.Logprobs
	have.Content = append(have.Content, p.GetContent()...)
	have.Refusal = append(have.Refusal, p.GetRefusal()...)
}

func (a *assembly) result() *completionv1.Completion {
	c := a.completion
	c.Text, c.Reasoning, c.Refusal = a.text.String(), a.reasoning.String(), a.refusal.String()
	for _, t := range a.calls {
		t.call.Name, t.call.Arguments, t.call.Extra = t.name.String(), t.arguments.String(), t.extra.result()
		c.ToolCalls = append(c.ToolCalls, t.call)
	}
	c.Extra = a.extra.result()
	return c
}
