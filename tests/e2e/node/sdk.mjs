// SPDX-License-Identifier: Apache-2.0
// Sends one trace with everything a span can carry through the OpenTelemetry SDK and prints what it sent.
//   node sdk.mjs grpc|proto|json  none|gzip  URL
import { randomBytes } from 'node:crypto';
import { context, trace, SpanKind, SpanStatusCode, TraceFlags, createTraceState } from '@opentelemetry/api';
import { BasicTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { CompressionAlgorithm } from '@opentelemetry/otlp-exporter-base';
import { OTLPTraceExporter as Grpc } from '@opentelemetry/exporter-trace-otlp-grpc';
import { OTLPTraceExporter as Proto } from '@opentelemetry/exporter-trace-otlp-proto';
import { OTLPTraceExporter as Json } from '@opentelemetry/exporter-trace-otlp-http';

const [protocol, compression, url] = process.argv.slice(2);
const Exporter = { grpc: Grpc, proto: Proto, json: Json }[protocol];
const exporter = new Exporter({
  url, compression: compression === 'gzip' ? CompressionAlgorithm.GZIP : CompressionAlgorithm.NONE,
});

const sent = [];
const note = {
  export(spans, done) {
    for (const s of spans) {
      const c = s.spanContext();
      sent.push({
        traceId: c.traceId, spanId: c.spanId, parentSpanId: s.parentSpanContext?.spanId ?? '',
        traceState: c.traceState?.serialize() ?? '', flags: c.traceFlags, name: s.name, kind: s.kind,
        start: s.startTime, end: s.endTime, attributes: s.attributes, status: s.status,
        events: s.events.map(e => ({ name: e.name, time: e.time, attributes: e.attributes ?? {} })),
        links: s.links.map(l => ({ traceId: l.context.traceId, spanId: l.context.spanId, attributes: l.attributes ?? {} })),
        scope: s.instrumentationScope, resource: s.resource.attributes,
      });
    }
    exporter.export(spans, done);
  },
  shutdown: () => exporter.shutdown(),
  forceFlush: async () => {},
};
const provider = new BasicTracerProvider({
  resource: resourceFromAttributes({ 'service.name': `node-${protocol}-${compression}`, 'service.version': '1.2.3', 'process.pid': 42 }),
  spanProcessors: [new SimpleSpanProcessor(note)],
});
const tracer = provider.getTracer('e2e-scope', '0.9');
const remote = trace.setSpanContext(context.active(), {
  traceId: randomBytes(16).toString('hex'),
  spanId: 'b7ad6b7169203331', traceFlags: TraceFlags.SAMPLED, isRemote: true, traceState: createTraceState('vendor=a:1,other=2'),
});
const root = tracer.startSpan('GET /things/{id}', {
  kind: SpanKind.SERVER,
  attributes: {
    text: 'plain', 'text.empty': '', 'text.unicode': '한국어 漢字 🐕 "quoted" \\ \n', yes: true, no: false, int: 42, 'int.negative': -7,
    'int.large': 9007199254740991, float: 2.5, 'float.tiny': 1e-7, 'list.text': ['a', 'b'], 'list.int': [1, 2, 3],
    'list.bool': [true, false], 'list.float': [0.5, 1.25], 'list.empty': [],
  },
  links: [{ context: { traceId: '0af7651916cd43dd8448eb211c80319c', spanId: '00f067aa0ba902b7', traceFlags: 1 }, attributes: { why: 'batch' } }],
}, remote);
root.addEvent('cache miss', { key: 'things:7', tries: 3 });
root.recordException(new TypeError('it broke'));
const inner = trace.setSpan(remote, root);
for (const [name, kind] of [['internal', SpanKind.INTERNAL], ['call', SpanKind.CLIENT], ['send', SpanKind.PRODUCER], ['receive', SpanKind.CONSUMER]]) {
  const span = tracer.startSpan(name, { kind, attributes: { 'peer.service': 'x' } }, inner);
  if (kind === SpanKind.CLIENT) span.setStatus({ code: SpanStatusCode.ERROR, message: 'connection refused' });
  if (kind === SpanKind.PRODUCER) span.setStatus({ code: SpanStatusCode.OK });
  span.end();
}
root.end();
await provider.forceFlush();
await provider.shutdown();
console.log(JSON.stringify(sent));
