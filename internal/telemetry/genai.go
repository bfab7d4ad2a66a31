package telemetry

// The names that OpenTelemetry's conventions for generative AI have, as of version 1.41.0:
// they are in development, and change. All of them are here.
// https://github.com/open-telemetry/semantic-conventions/tree/v1.41.0/docs/gen-ai

// Metrics, and what the conventions say their buckets should be.
const (
	genAIRequestDuration    = "gen_ai.server.request.duration"
	genAITimeToFirstToken   = "gen_ai.server.time_to_first_token"
	genAITimePerOutputToken = "gen_ai.server.time_per_output_token"
	genAITokenUsage         = "gen_ai.client.token.usage"
)

var (
	genAIRequestDurationBuckets    = []float64{0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92}
	genAITimeToFirstTokenBuckets   = []float64{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0}
	genAITimePerOutputTokenBuckets = []float64{0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5}
	genAITokenUsageBuckets         = []float64{1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864}
)

// Attributes, and values of them.
const (
	genAIOperationName = "gen_ai.operation.name"
	genAIProviderName  = "gen_ai.provider.name"
	genAIRequestModel  = "gen_ai.request.model"
	genAIMaxTokens     = "gen_ai.request.max_tokens"
	genAITemperature   = "gen_ai.request.temperature"
	genAITopP          = "gen_ai.request.top_p"
	genAIResponseID    = "gen_ai.response.id"
	genAIFinishReasons = "gen_ai.response.finish_reasons"
	genAIFirstChunk    = "gen_ai.response.time_to_first_chunk"
	genAIInputTokens   = "gen_ai.usage.input_tokens"
	genAIOutputTokens  = "gen_ai.usage.output_tokens"
	genAITokenType     = "gen_ai.token.type"

	genAIChat           = "chat"
	genAITextCompletion = "text_completion"
	genAIOpenAI         = "openai"
	genAIInput          = "input"
	genAIOutput         = "output"
)
