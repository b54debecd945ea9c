// Package mlog has as much of the log that Azure's webhook writes to as it
// needs to compile: its own module is not handed out by the module proxy.
// What the webhook refuses, it also answers.
package mlog

// LogLevel is how much is logged.
type LogLevel string

// The levels that there are.
const (
	LevelWarning LogLevel = ""
	LevelInfo    LogLevel = "info"
	LevelDebug   LogLevel = "debug"
	LevelTrace   LogLevel = "trace"
	LevelAll     LogLevel = "all"
)

// Logger writes nothing.
type Logger struct{}

// New makes one.
func New() Logger { return Logger{} }

// WithName changes nothing.
func (l Logger) WithName(string) Logger { return l }

// WithValues changes nothing.
func (l Logger) WithValues(...any) Logger { return l }

// Error writes nothing.
func (l Logger) Error(string, error, ...any) {}

// Enabled tells whether a level is logged.
func Enabled(level LogLevel) bool { return level == LevelWarning }
