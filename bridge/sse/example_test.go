package sse_test

import (
	"fmt"
	"io"
	"log"
	"strings"

	"github.com/sluice-sse/sluice/bridge/sse"
)

// A block is written line by line. The data is JSON, so no text can end it early.
func ExampleAppendField() {
	b := sse.AppendField(nil, "event", "delta")
	b = append(b, `data: {"text":`...)
	b = sse.AppendQuoted(b, []byte("two\nlines"))
	b = append(b, "}\n"...)
	b = sse.AppendField(b, "id", "7")
	b = append(b, '\n')
	fmt.Print(string(b))
	// Output:
	// event: delta
	// data: {"text":"two\nlines"}
	// id: 7
}

func ExampleReader() {
	r := sse.NewReader(strings.NewReader("event: delta\ndata: {\"text\":\"Hello\"}\nid: 7\n\n: hb\ndata: cut"), 1<<20)
	for {
		m, err := r.Next()
		if err == io.EOF {
			break // a block that was not ended by a blank line does not count
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(m.Event, m.ID, m.Data)
	}
	// Output:
	// delta 7 {"text":"Hello"}
}
