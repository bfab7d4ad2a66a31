package redis

import (
	"encoding/binary"
	"errors"

	"github.com/sluice-sse/sluice/server/journal"
)

// A batch is a list of frames, one for each entry: a varint of its data's length times
// four plus its kind, and the data. Sequences are not in it but counted.

func appendFrames(b []byte, entries []journal.Entry) []byte {
	for _, e := range entries {
		b = binary.AppendUvarint(b, uint64(len(e.Data))<<2|uint64(e.Kind))
		b = append(b, e.Data...)
	}
	return b
}

var errFrames = errors.New("what the store has is no batch of entries")

// decodeFrames returns the entries of a batch, without their sequences.
func decodeFrames(b []byte) (entries []journal.Entry, err error) {
	for len(b) > 0 {
		header, n := binary.Uvarint(b)
		size := header >> 2
		if n <= 0 || size > uint64(len(b)-n) || header&3 > uint64(journal.Failed) {
			return nil, errFrames
		}
		end := n + int(size)
		entries = append(entries, journal.Entry{Kind: journal.Kind(header & 3), Data: b[n:end:end]})
		b = b[end:]
	}
	return entries, nil
}
