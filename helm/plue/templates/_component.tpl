{{/* The Deployment of one component. Takes a dict: root, name, values, args, env, ports (name →
     number), health (port's name), token (whether it speaks to the API server), migrates. */}}
{{- define "plue.deployment" -}}
{{- $root := .root -}}
{{- $full := include "plue.fullname" $root -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $full }}-{{ .name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "plue.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
spec:
  replicas: {{ .values.replicas }}
  strategy:
    # A new one is ready before an old one goes.
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  selector:
    matchLabels:
      {{- include "plue.selector" $root | nindent 6 }}
      app.kubernetes.io/component: {{ .name }}
  template:
    metadata:
      labels:
        {{- include "plue.labels" $root | nindent 8 }}
        app.kubernetes.io/component: {{ .name }}
      annotations:
        plue.dev/models: {{ toJson $root.Values.models | sha256sum | trunc 16 | quote }}
        plue.dev/database: {{ toJson $root.Values.database | sha256sum | trunc 16 | quote }}
    spec:
      serviceAccountName: {{ $full }}-{{ .name }}
      automountServiceAccountToken: {{ .token }}
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      {{- with .values.runtimeClassName }}
      runtimeClassName: {{ . }}
      {{- end }}
      {{- with .values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with .values.nodeSelector }}
      nodeSelector: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
      terminationGracePeriodSeconds: 30
      securityContext: {{- include "plue.podSecurity" $root | nindent 8 }}
      topologySpreadConstraints:
        {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
        - maxSkew: 1
          topologyKey: {{ . }}
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "plue.selector" $root | nindent 14 }}
              app.kubernetes.io/component: {{ $.name }}
        {{- end }}
      {{- if .migrates }}
      initContainers:
        # What an upgrade's job has done already; at a first install there is none.
        - name: migrate
          image: {{ include "plue.image" (list $root.Values.image $root.Chart.AppVersion) }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args: [migrate, --wait, "240"]
          env: {{- include "plue.databaseEnv" $root | trim | nindent 12 }}
          resources: {{- toYaml .values.resources | nindent 12 }}
          securityContext: {{- include "plue.containerSecurity" $root | nindent 12 }}
      {{- end }}
      containers:
        - name: {{ .name }}
          image: {{ include "plue.image" (list $root.Values.image $root.Chart.AppVersion) }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args: {{- toYaml .args | nindent 12 }}
          env: {{- .env | trim | nindent 12 }}
          {{- with .secret }}
          envFrom:
            - secretRef: {name: {{ . }}}
          {{- end }}
          ports:
            {{- range $name, $number := .ports }}
            - {name: {{ $name }}, containerPort: {{ $number }}}
            {{- end }}
          # Whether its loop turns: what is wrong elsewhere, a restart would not mend.
          livenessProbe:
            httpGet: {path: /healthz, port: {{ .health }}}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          # As long as the image's libraries, and a schema that is being made, may take.
          startupProbe:
            httpGet: {path: /healthz, port: {{ .health }}}
            periodSeconds: 1
            timeoutSeconds: 5
            failureThreshold: 360
          # Whether this replica can do its work.
          readinessProbe:
            httpGet: {path: {{ .ready }}, port: {{ .health }}}
            periodSeconds: 5
            timeoutSeconds: 5
            failureThreshold: 2
          resources: {{- toYaml .values.resources | nindent 12 }}
          securityContext: {{- include "plue.containerSecurity" $root | nindent 12 }}
          volumeMounts:
            - {name: data, mountPath: /var/lib/plue}
            - {name: tmp, mountPath: /tmp}
            {{- if .settings }}
            - {name: settings, mountPath: /etc/plue, readOnly: true}
            {{- end }}
            {{- if .identity }}
            - {name: identity, mountPath: /var/run/plue/identity, readOnly: true}
            {{- end }}
      volumes:
        - name: data
          {{- if and .archives $root.Values.archives.existingClaim }}
          persistentVolumeClaim: {claimName: {{ $root.Values.archives.existingClaim }}}
          {{- else }}
          emptyDir: {sizeLimit: {{ $root.Values.archives.sizeLimit }}}
          {{- end }}
        {{- if .settings }}
        - name: settings
          configMap: {name: {{ $full }}-models}
        {{- end }}
        {{- with .identity }}
        # The kubelet writes a new token before the old one ends; the file is read at each exchange.
        - name: identity
          projected:
            sources:
              - serviceAccountToken:
                  path: token
                  audience: {{ .audience | quote }}
                  expirationSeconds: {{ .expirationSeconds }}
        {{- end }}
        - name: tmp
          emptyDir: {{ with .values.tmpSizeLimit }}{sizeLimit: {{ . }}}{{ else }}{}{{ end }}
{{- if and $root.Values.podDisruptionBudgets.enabled (gt (int .values.replicas) 1) }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $full }}-{{ .name }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "plue.labels" $root | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "plue.selector" $root | nindent 6 }}
      app.kubernetes.io/component: {{ .name }}
{{- end }}
{{- end -}}

{{- define "plue.service" -}}
{{- $root := .root -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "plue.fullname" $root }}-{{ .name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "plue.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
  {{- with .annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ default "ClusterIP" .type }}
  selector:
    {{- include "plue.selector" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
  ports:
    - {name: {{ .name }}, port: {{ .port }}, targetPort: {{ .target }}}
    {{- range .more }}
    - {name: {{ .name }}, port: {{ .port }}, targetPort: {{ .targetPort }}}
    {{- end }}
{{- end -}}
