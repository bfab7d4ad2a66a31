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

// assembly is a completion as its deltas are put together.
type assembly struct {
	completion               *completionv1.Completion
	text, reasoning, refusal strings.Builder
	calls                    []*toolCall
	event                    completionv1.CompletionEvent // used again
}

type toolCall struct {
	call      *completionv1.ToolCall
	arguments strings.Builder
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
	case *completionv1.CompletionEvent_Finished:
		c.State = completionv1.Completion_FINISHED
		if event.Finished.GetFinishReason() == completionv1.Finished_CANCELLED {
			c.State = completionv1.Completion_CANCELLED
		}
		c.FinishReason, c.Usage = event.Finished.GetFinishReason(), event.Finished.GetUsage()
	}
	return nil
}

// addToolCall joins a piece to the call with its index.
func (a *assembly) addToolCall(piece *completionv1.ToolCall) {
	var t *toolCall
	for _, have := range a.calls {
		if have.call.GetIndex() == piece.GetIndex() {
			t = have
		}
	}
	if t == nil {
		t = &toolCall{call: &completionv1.ToolCall{Index: proto.Int32(piece.GetIndex())}}
		a.calls = append(a.calls, t)
	}
	if piece.GetId() != "" {
		t.call.Id = piece.GetId()
	}
	if piece.GetName() != "" {
		t.call.Name = piece.GetName()
	}
	t.arguments.WriteString(piece.GetArguments())
}

func (a *assembly) result() *completionv1.Completion {
	c := a.completion
	c.Text, c.Reasoning, c.Refusal = a.text.String(), a.reasoning.String(), a.refusal.String()
	for _, t := range a.calls {
		t.call.Arguments = t.arguments.String()
		c.ToolCalls = append(c.ToolCalls, t.call)
	}
	return c
}
