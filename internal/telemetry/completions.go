package telemetry

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server"
	"github.com/sluice-sse/sluice/server/failure"
)

// Observer is the server.Observer.
func (t *Telemetry) Observer() server.Observer { return observer{t} }

type observer struct{ *Telemetry }

// completion is what is known of one from its begin to its end, in its context.
type completion struct {
	span      trace.Span
	operation string
}

type completionKey struct{}

// Began implements server.Observer.
func (o observer) Began(call, generate context.Context, b server.Began) context.Context {
	c := &completion{operation: genAIChat}
	if b.Request.Prompt != nil {
		c.operation = genAITextCompletion
	}
	if o.metrics != nil {
		o.models.label(b.Request.GetModel()) // so that the list is there at the end
	}
	generate, c.span = o.tracer.Start(trace.ContextWithSpan(generate, trace.SpanFromContext(call)), c.operation+" "+clip(b.Request.GetModel()),
		trace.WithSpanKind(trace.SpanKindClient))
	if c.span.IsRecording() {
		c.span.SetAttributes(
			attribute.String(genAIOperationName, c.operation),
			attribute.String(genAIProviderName, providerOf(b.Request.GetModel())),
			attribute.String(genAIRequestModel, clip(b.Request.GetModel())),
			attribute.String(genAIResponseID, b.ID),
		)
		c.span.SetAttributes(parameters(b.Request)...)
	}
	return context.WithValue(generate, completionKey{}, c)
}

// parameters are those of a request that a span has.
func parameters(req *completionv1.CompletionRequest) (attrs []attribute.KeyValue) {
	if req.MaxTokens != nil {
		attrs = append(attrs, attribute.Int(genAIMaxTokens, int(req.GetMaxTokens())))
	}
	if req.Temperature != nil {
		attrs = append(attrs, attribute.Float64(genAITemperature, float64(req.GetTemperature())))
	}
	if req.TopP != nil {
		attrs = append(attrs, attribute.Float64(genAITopP, float64(req.GetTopP())))
	}
	return attrs
}

// Ended implements server.Observer.
func (o observer) Ended(generate context.Context, e server.Ended) {
	c, ok := generate.Value(completionKey{}).(*completion)
	if !ok { // it was another server's
		c = &completion{span: trace.SpanFromContext(context.Background())}
	}
	if o.metrics != nil && e.Journaled {
		o.metrics.ended(generate, e, append(make([]attribute.KeyValue, 0, 4),
			attribute.String(genAIOperationName, c.operation),
			attribute.String(genAIProviderName, providerOf(e.Model)),
			attribute.String(genAIRequestModel, o.models.label(e.Model))))
	}
	if c.span.IsRecording() {
		c.span.SetAttributes(attribute.String(attrSpanResult, e.Outcome))
		if e.FirstToken > 0 {
			c.span.SetAttributes(attribute.Float64(genAIFirstChunk, e.FirstToken.Seconds()))
		}
		if e.FinishReason != completionv1.Finished_FINISH_REASON_UNSPECIFIED {
			c.span.SetAttributes(attribute.StringSlice(genAIFinishReasons, []string{strings.ToLower(e.FinishReason.String())}))
		}
		if e.Usage != nil {
			c.span.SetAttributes(attribute.Int(genAIInputTokens, int(e.Usage.GetPromptTokens())), attribute.Int(genAIOutputTokens, int(e.Usage.GetCompletionTokens())))
		}
		if e.Cause != nil {
			c.span.SetAttributes(attribute.String(attrErrorType, e.Outcome))
			var failed *failure.Error
			if errors.As(e.Cause, &failed) {
				c.span.SetStatus(codes.Error, e.Outcome)
			}
		}
	}
	c.span.End()
}

// Reads implements server.Observer.
func (o observer) Reads(ctx context.Context, id string) {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return
	}
	c.id = id
	if o.metrics != nil && c.method == completionv1.CompletionService_ResumeCompletion_FullMethodName {
		o.metrics.resumes.Add(ctx, 1)
	}
}

// Request is openai.Config's OnRequest: it hands the context of a trace on.
func (t *Telemetry) Request(r *http.Request) {
	propagator.Inject(r.Context(), propagation.HeaderCarrier(r.Header))
}

// providerOf returns who generates, as the conventions name it.
func providerOf(model string) string {
	if model == echoModel {
		return echoModel
	}
	return genAIOpenAI
}

// clip bounds what a caller has named. It does not keep the rest of it in memory: a span
// lasts as long as a completion.
func clip(s string) string {
	if len(s) > maxModelName {
		s = strings.Clone(s[:maxModelName])
	}
	return strings.ToValidUTF8(s, "")
}
