package app

// openAIFlags are those of OpenAI's API, as the bridge serves it.
type openAIFlags struct {
	DedupeWindow nonNegativeDuration `default:"0s" placeholder:"DURATION" help:"For how long after a response a request is known again that an OpenAI SDK repeats by itself (X-Stainless-Retry-Count), so that it gets the same completion instead of another one that costs again. Completions of SDKs then go on for as long when their client has left. 0s: not at all."`
}
