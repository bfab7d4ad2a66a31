package descriptors

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// maxSize is how many bytes of descriptors are taken.
const maxSize = 64 << 20

// File is the source that is a file, by its name. It is read at each Load.
type File string

// Load implements Source.
func (name File) Load(_ context.Context, services []protoreflect.FullName, all bool) (*Set, error) {
	f, err := os.Open(string(name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxSize {
		return nil, fmt.Errorf("%s has more than %d bytes", name, maxSize)
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(b, &set); err != nil {
		return nil, fmt.Errorf("%s is not a FileDescriptorSet, as protoc --include_imports --descriptor_set_out or buf build -o writes it: %w", name, err)
	}
	if len(set.GetFile()) == 0 {
		return nil, errors.New(string(name) + " has no descriptors in it")
	}
	return newSet(set.GetFile(), nil, wanted(services, all))
}
