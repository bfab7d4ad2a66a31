package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/journal"
)

// assemble puts a completion of the caller's together from the events that are
// in the journal now.
func (s *Server) assemble(ctx context.Context, id string) (*completionv1.Completion, error) {
	info, err := s.owned(ctx, id)
	if err != nil {
		return nil, err
	}
	r, err := s.config.Journal.Read(ctx, id, 0)
	if err != nil {
		return nil, journalFailure(err)
	}
	defer r.Close()
	a := newAssembly(info.Completion)
	// Up to what is known to be there, so that Next never waits.
	for a.completion.LastSequence < info.Last {
		entries, err := r.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, journalFailure(err)
		}
		for _, e := range entries {
			if err := a.add(e); err != nil {
				return nil, fmt.Errorf("read the journal: %w", err)
			}
		}
	}
	return a.result(), nil
}

// assembly is a completion as its deltas are put together, in time in proportion to
// what they hold.
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
