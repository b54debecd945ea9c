package instance

import (
	"bufio"
	"context"
	"maps"
	"os"
	"strings"
	"unicode"
)

// Commands maps the first word of a line on stdin to what it does. The answer
// is printed as one JSON line: the returned fields and "ok":true, or "ok":false
// and "error".
type Commands map[string]func(ctx context.Context, words []string) (map[string]any, error)

// Serve prints the ready line, then answers commands from stdin until stdin
// closes, ctx is cancelled (SIGTERM, SIGINT) or a child in watch ends.
func Serve(ctx context.Context, ready any, commands Commands, watch ...*Child) error {
	if err := PrintLine(ready); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	died := make(chan *Child, len(watch))
	for _, child := range watch {
		go func() {
			<-child.Done()
			died <- child
		}()
	}
	lines := stdinLines(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case child := <-died:
			return newEndedError(child)
		case line, open := <-lines:
			if !open {
				return nil
			}
			if err := PrintLine(answer(ctx, commands, line)); err != nil {
				return err
			}
		}
	}
}

// EndedError says that a child ended while it was needed.
type EndedError struct {
	// Name is the child's.
	Name string
	// Log holds the last lines of its log.
	Log string
}

func newEndedError(child *Child) *EndedError {
	// Read now: the log goes with the instance's folder.
	return &EndedError{Name: child.Name, Log: child.LogTail(15)}
}

// Error names the child and ends with the last lines of its log.
func (e *EndedError) Error() string {
	return e.Name + " ended by itself; the end of its log:\n" + e.Log
}

func answer(ctx context.Context, commands Commands, line string) map[string]any {
	words := strings.FieldsFunc(line, unicode.IsSpace)
	if len(words) == 0 {
		return map[string]any{"ok": false, "error": "an empty line is no command"}
	}
	command, known := commands[words[0]]
	if !known {
		return map[string]any{"ok": false, "error": "no such command: " + words[0]}
	}
	fields, err := command(ctx, words[1:])
	if err != nil {
		return map[string]any{"ok": false, "error": err.Error()}
	}
	result := map[string]any{"ok": true}
	maps.Copy(result, fields)
	return result
}

// stdinLines sends each line of stdin and closes the channel at its end.
func stdinLines(ctx context.Context) <-chan string {
	lines := make(chan string)
	go func() {
		defer close(lines)
		scanner := bufio.NewScanner(os.Stdin)
		scanner.Buffer(nil, 16<<20)
		for scanner.Scan() {
			select {
			case lines <- scanner.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return lines
}
