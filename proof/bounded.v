(** Conditions under which the expectation may be differentiated: they imply [dominated], the hypothesis of Lemma 1
    and Theorem 1 for a measure.

    - [bounded_inputs]: the inputs lie in a compact set, such as the rows of bounded numbers, and the network is
      continuously differentiable in its parameters: images with pixels in [0, 1] and a smooth network, for one.
      Both theorems follow ([lemma_1_bounded_inputs], [theorem_1_bounded_inputs]).
      The linear model on bounded inputs is an instance ([linear_model_bounded]).
    - [bounded_changes]: nothing is asked of the inputs, but one Lipschitz constant serves all of them.

    Both ask for a [regular_loss]: squared error, Huber's loss and the softmax losses are, on all outputs or on
    chosen ones, at any temperature. *)

From mathcomp Require Import all_ssreflect all_algebra ring.
From mathcomp.classical Require Import boolp classical_sets functions cardinality mathcomp_extra.
From mathcomp.analysis Require Import reals constructive_ereal ereal signed topology prodnormedzmodule normedtype.
From mathcomp.analysis Require Import landau derive sequences exp measure lebesgue_measure lebesgue_integral.
From Subliminal Require Import statement calculus losses instances expectation any_measure.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory numFieldNormedType.Exports.
Local Open Scope ring_scope.
Local Open Scope classical_set_scope.

(** ** Measurable and bounded functions *)
Section Measurable.
Context {R : realType} d (X : measurableType d).

(** Measurable for the sigma-algebra that the open sets generate. *)
Definition borel (T : topologicalType) (h : X -> T) := forall O, open O -> measurable (h @^-1` O).

Lemma continuous_borel (T U : topologicalType) (h : X -> T) (G : T -> U) :
  continuous G -> borel h -> borel (fun x => G (h x)).
Proof. by move=> Gc hb O Oo; apply: (hb (G @^-1` O)); exact: open_comp. Qed.

Lemma borel_measurable (h : X -> R) : borel h -> measurable_fun setT h.
Proof.
move=> hb; apply: (measurability (RGenOpens.measurableE R)).
move=> _ [_ [a [b ->] <-]]; rewrite setTI; exact/hb/interval_open.
Qed.

Lemma measurable_borel (h : X -> R) : measurable_fun setT h -> borel h.
Proof.
by move=> mh O Oo; rewrite -[_ @^-1` _]setTI; apply: mh => //; exact: open_measurable.
Qed.

Variable mu : {measure set X -> \bar R}.
Hypothesis finite : (mu setT < +oo)%E.

Lemma integrable_cst (c : R) : integrable mu (fun=> c).
Proof.
rewrite /integrable (_ : EFin \o _ = cst c%:E)//; split; first exact: measurable_fun_cst.
by under eq_integral do rewrite /=; rewrite integral_cst// lte_mul_pinfty.
Qed.

Lemma bounded_integrable (h : X -> R) B : measurable_fun setT h -> (forall x, `|h x| <= B) -> integrable mu h.
Proof. by move=> mh hB; apply: (integrable_bounded mh hB); exact: integrable_cst. Qed.
End Measurable.

(** A continuous function is bounded on a compact set. *)
Lemma compact_bound (R : realType) (T : topologicalType) (V : normedModType R) (A : set T) (G : T -> V) :
  compact A -> continuous G -> exists2 B, 0 <= B & forall u, A u -> `|G u| <= B.
Proof.
move=> Ac Gc; have [M [_ HM]] : bounded_set (G @` A).
  by apply/compact_bounded/continuous_compact => //; exact: continuous_subspaceT.
exists (`|M| + 1) => [|u Au]; first by rewrite addr_ge0.
by apply: HM; [rewrite ltr_spaddr// ler_norm|exists u].
Qed.

(** ** Bounded Jacobians make a function of rows Lipschitz *)
Section Lipschitz.
Context {R : realType} {p n : nat}.
Variables (F : 'rV[R]_p.+1 -> 'rV[R]_n.+1) (a : 'rV[R]_p.+1) (r C : R).
Hypothesis F_diff : forall theta, ball a r theta -> differentiable F theta.
Hypothesis bound : forall theta, ball a r theta -> `|jacobian F theta| <= C.

Lemma norm_entry (m k : nat) (A : 'M[R]_(m.+1, k.+1)) i j : `|A i j| <= `|A|.
Proof. by rewrite [X in _ <= X]/Num.Def.normr/= mx_normrE; apply/bigmax_geP; right; exists (i, j). Qed.

Lemma bounded_jacobian_lipschitz theta : ball a r theta -> `|F theta - F a| <= p.+1%:R * C * `|theta - a|.
Proof.
move=> at_theta; have r0 : 0 < r.
  by move: at_theta; rewrite -ball_normE /ball_/= => /(le_lt_trans (normr_ge0 _)).
have C0 : 0 <= C by apply: le_trans (bound (ballxx a r0)).
have segment t : 0 <= t -> t <= 1 -> ball a r (a + t *: (theta - a)).
  move: at_theta; rewrite -!ball_normE /ball_/= distrC => at_theta t0 t1.
  rewrite opprD addrA subrr sub0r normrN normrZ ger0_norm// (le_lt_trans _ at_theta)//.
  by rewrite ler_pimull.
apply: norm_le => [|i]; first by rewrite !mulr_ge0.
have FE t : ball a r t -> is_diff t (fun s => F s 0 i) (dot (\row_j jacobian F t j i)).
  move=> bt; apply: (is_diff_ext (is_diff_o (is_diff_jacobian (F_diff bt)) (is_diff_coord (F t) i))) => // h.
  by rewrite [RHS]dotC mxE; apply: eq_bigr => j _; rewrite [in RHS]mxE.
have Fd t : 0 <= t -> t <= 1 -> differentiable (fun s => F s 0 i) (a + t *: (theta - a)).
  by move=> t0 t1; have [] := FE _ (segment t t0 t1).
have [t /andP[t0 t1]] := mean_value_segment Fd.
have bt := segment t (ltW t0) (ltW t1).
rewrite [a + (theta - a)]addrC subrK (is_diff_grad (FE _ bt)) !mxE => ->.
rewrite (le_trans (norm_dot _ _))// ler_wpmul2r// ler_wpmul2l//.
apply: norm_le => // j; rewrite mxE (le_trans (norm_entry _ _ _))//; exact: bound.
Qed.
End Lipschitz.

(** ** Bounded inputs

    The inputs are points of a compact set A: bounded rows of numbers, for one. The network F is continuous in the
    input and, near the start, continuously differentiable in the parameters. Then any finite measure will do. *)
Record bounded_inputs (R : realType) d (X : measurableType d) (mu : {measure set X -> \bar R}) (T : topologicalType)
    (A : set T) (input : X -> T) p n (F : T -> 'rV[R]_p.+1 -> 'rV[R]_n.+1) (theta0 : 'rV[R]_p.+1) : Prop :=
  BoundedInputs {
  inputs_finite : (mu setT < +oo)%E;
  inputs_compact : compact A;
  inputs_borel : borel input;
  inputs_in : forall x, A (input x);
  network_continuous : forall theta, continuous (F^~ theta);
  network_differentiable : \forall theta \near theta0, forall u, A u -> differentiable (F u) theta;
  jacobian_continuous : forall u, A u -> {for (u, theta0), continuous (fun ut => jacobian (F ut.1) ut.2)} }.

(** A loss that is continuous, and whose gradient grows no faster than the distance of outputs and labels. *)
Record regular_loss (R : realType) n (LS : 'rV[R]_n.+1 -> 'rV[R]_n.+1 -> R) : Prop := RegularLoss {
  loss_continuous : continuous (fun zy => LS zy.1 zy.2);
  loss_growth : exists C, forall z y, `|loss_gradient LS z y| <= C * `|z - y| }.

Section BoundedInputs.
Context {R : realType} d (X : measurableType d) (mu : {measure set X -> \bar R}) (T : topologicalType) {p n : nat}.
Variables (A : set T) (input : X -> T) (F : T -> 'rV[R]_p.+1 -> 'rV[R]_n.+1).
Variables (LS : 'rV[R]_n.+1 -> 'rV[R]_n.+1 -> R) (theta0 : 'rV[R]_p.+1).
Hypothesis inputs : bounded_inputs mu A input F theta0.
Hypothesis loss : regular_loss LS.

Let finite := inputs_finite inputs.
Let A_compact := inputs_compact inputs.
Let F_continuous theta : continuous (F^~ theta) := @network_continuous _ _ _ _ _ _ _ _ _ _ _ inputs theta.

(** Near the start one bound serves the Jacobians of all inputs: A is covered by finitely many neighbourhoods. *)
Lemma jacobian_bounded : exists C, \forall theta \near theta0, forall u, A u -> `|jacobian (F u) theta| <= C.
Proof.
have cover := compact_near_coveringP.1 _ A_compact.
have [u Au|[U V] /= [U0 Vinf] UV] :=
    cover _ (filter_prod (nbhs theta0) (+oo : set (set R))) (fun tc u => `|jacobian (F u) tc.1| <= tc.2) _.
  have lt : `|jacobian (F u) theta0| < `|jacobian (F u) theta0| + 1 by rewrite ltr_addl.
  have cvgJ : (fun ut : T * 'rV[R]_p.+1 => jacobian (F ut.1) ut.2) @ (u, theta0) --> jacobian (F u) theta0.
    exact: (jacobian_continuous inputs).
  have [[U W] /= [Uu W0] UW] := cvgr_norm_lt _ cvgJ _ lt.
  set b := `|_| + 1 in UW; exists (U, W `*` [set c | b <= c]).
    by split=> //; exists (W, [set c | b <= c]) => //; split=> //; exact/nbhs_pinfty_ge/num_real.
  move=> [u' [theta c]] /= [Uu' [Wt bc]]; apply: le_trans bc; apply/ltW.
  exact: (UW (u', theta)).
have [c Vc] := filter_ex Vinf; exists c; apply: filterS U0 => theta Ut u Au.
exact: (UV (theta, c)).
Qed.

Lemma continuous_integrable (G : T -> R) : continuous G ->
  measurable_fun setT (fun x => G (input x)) /\ integrable mu (fun x => G (input x)).
Proof.
move=> Gc; have mG : measurable_fun setT (fun x => G (input x)).
  exact: borel_measurable (continuous_borel Gc (inputs_borel inputs)).
have [B _ bound] := compact_bound A_compact Gc.
by split=> //; apply: (bounded_integrable finite mG (B := B)) => x; exact/bound/(inputs_in inputs).
Qed.

Lemma loss_integrable theta theta' : measurable_fun setT (fun x => LS (F (input x) theta) (F (input x) theta')) /\
  integrable mu (fun x => LS (F (input x) theta) (F (input x) theta')).
Proof.
apply: (continuous_integrable (G := fun u => LS (F u theta) (F u theta'))) => u.
have pair : (fun u => (F u theta, F u theta')) @ u --> (F u theta, F u theta').
  exact: cvg_pair (@F_continuous theta u) (@F_continuous theta' u).
exact: (cvg_comp pair (@loss_continuous _ _ _ loss (F u theta, F u theta'))).
Qed.

Theorem bounded_inputs_dominated dT : dominated mu (fun x => F (input x)) LS theta0 dT.
Proof.
split=> [|eps|eps theta|eps|]; last exact: loss_growth.
- have [C bound] := jacobian_bounded.
  exists (fun=> p.+1%:R * C); split; first exact: integrable_cst.
  have /nbhs_ballP : nbhs theta0 (fun t => (forall u, A u -> differentiable (F u) t) /\
      forall u, A u -> `|jacobian (F u) t| <= C) by exact: filterI (network_differentiable inputs) bound.
  move=> [r /= r0 ball_r].
  apply/nbhs_ballP; exists r => //= theta near_theta x.
  apply: (bounded_jacobian_lipschitz (r := r)) => // t /ball_r[Fd Fb].
    exact/Fd/(inputs_in inputs).
  exact/Fb/(inputs_in inputs).
- pose G u : R := `|F u (theta0 + eps *: dT) - F u theta0| ^+ 2.
  suff : continuous G by move=> /continuous_integrable[].
  move=> u; rewrite /G; under eq_fun do rewrite expr2; rewrite expr2.
  by apply: cvgM; apply: cvg_norm; apply: cvgB; exact: F_continuous.
- by have [] := loss_integrable theta (theta0 + eps *: dT).
- by have [] := loss_integrable theta0 (theta0 + eps *: dT).
Qed.

Let f_diff x : differentiable (F (input x)) theta0.
Proof. exact: nbhs_singleton (network_differentiable inputs) _ (inputs_in inputs x). Qed.

Corollary lemma_1_bounded_inputs dT : imitation_loss LS ->
  never_against (expect mu) (fun x => F (input x)) LS theta0 dT.
Proof. by move=> HLS; exact: lemma_1_any_measure f_diff HLS (bounded_inputs_dominated dT). Qed.

Corollary theorem_1_bounded_inputs LT alpha : imitation_loss LS -> differentiable LT theta0 -> 0 < alpha ->
  orthogonal_or_transfer (expect mu) (fun x => F (input x)) LS LT alpha theta0.
Proof.
by move=> HLS; exact: theorem_1_any_measure f_diff HLS (bounded_inputs_dominated (- grad LT theta0)).
Qed.
End BoundedInputs.

(** Rows of bounded numbers form a compact set. *)
Lemma bounded_rows_compact (R : realType) k (B : R) : compact [set u : 'rV[R]_k.+1 | `|u| <= B].
Proof.
apply: bounded_closed_compact.
  by exists B; split; [exact: num_real|move=> M BM u /le_trans; apply; exact: ltW].
have -> : [set u : 'rV[R]_k.+1 | `|u| <= B] = (fun u => `|u|) @^-1` [set b | b <= B] by [].
apply: closed_comp => [u _|]; [exact: norm_continuous|exact: closed_le].
Qed.

(** ** Rows whose entries are measurable are measurable *)
Section Countable.
Context {R : realType} d (X : measurableType d).

(** An open set is the union of the balls in it about countably many points q that come near every point. *)
Lemma ball_borel (T : pseudoMetricType R) (q : nat -> T) (h : X -> T) :
  (forall t (e : R), 0 < e -> exists k, ball t e (q k)) ->
  (forall k (e : R), 0 < e -> measurable (h @^-1` ball (q k) e)) -> borel h.
Proof.
move=> dense mball O Oo; pose e m : R := m.+1%:R^-1.
pose piece m k := if `[< ball (q k) (e m) `<=` O >] then h @^-1` ball (q k) (e m) else set0.
rewrite (_ : h @^-1` O = \bigcup_m \bigcup_k piece m k); last first.
  apply/seteqP; split=> [x Ox|x [m _ [k _]]]; last first.
    by rewrite /piece; case: ifP => // /asboolP inO; exact: inO.
  have /nbhs_ballP[r /= r0 inO] : nbhs (h x) O by exact: open_nbhs_nbhs.
  have r20 : 0 < r / 2%:R by rewrite divr_gt0.
  have [m em] := filter_ex (near_vanishing r20); have e0 : 0 < e m by rewrite invr_gt0.
  have [k near_k] := dense (h x) _ e0.
  exists m => //; exists k => //; rewrite /piece ifT; first exact: ball_sym.
  apply/asboolP => t near_t; apply: inO; apply: (@le_ball _ _ _ (e m + e m)); last exact: ball_triangle near_t.
  by rewrite [r]splitr ler_add// ltW.
apply: bigcup_measurable => m _; apply: bigcup_measurable => k _; rewrite /piece.
by case: ifP => // _; apply: mball; rewrite invr_gt0.
Qed.

(** The rational rows. *)
Definition rational n (q : 'rV[rat]_n.+1) : 'rV[R]_n.+1 := \row_i ratr (q 0 i).

Lemma rational_dense n (z : 'rV[R]_n.+1) (e : R) : 0 < e -> exists q, ball z e (rational q).
Proof.
move=> e0; have /boolp.choice[q Hq] : forall i, exists q : rat, ratr q \in `]z 0 i - e, z 0 i + e[%R.
  by move=> i; apply: rat_in_itvoo; rewrite ltr_subl_addr -addrA ltr_addl addr_gt0.
exists (\row_i q i) => i j; rewrite ord1 !mxE -ball_normE /ball_/= ltr_distlC.
by have := Hq j; rewrite in_itv.
Qed.

Lemma measurable_ball n (h : X -> 'rV[R]_n.+1) z (e : R) : 0 < e ->
  (forall i, measurable_fun setT (fun x => h x 0 i)) -> measurable (h @^-1` ball z e).
Proof.
move=> e0 mh; rewrite (_ : _ @^-1` _ = \bigcap_(i in [set: 'I_n.+1]) ((fun x => h x 0 i) @^-1` ball (z 0 i) e)).
  apply: fin_bigcap_measurable => [|i _]; first exact: finite_finset.
  by apply: (measurable_borel (mh i)); exact: ball_open.
apply/seteqP; split=> x Hx; first by move=> i _; exact: Hx.
by move=> i j; rewrite ord1; exact: Hx.
Qed.

Lemma row_pair_borel n m (h : X -> 'rV[R]_n.+1) (k : X -> 'rV[R]_m.+1) :
  (forall i, measurable_fun setT (fun x => h x 0 i)) -> (forall i, measurable_fun setT (fun x => k x 0 i)) ->
  borel (fun x => (h x, k x)).
Proof.
move=> mh mk.
pose q i : 'rV[R]_n.+1 * 'rV[R]_m.+1 :=
  if unpickle i is Some ab then (rational ab.1, rational ab.2) else (0, 0).
apply: (@ball_borel _ q) => [[z y] e e0|i e e0].
  have [a near_a] := rational_dense z e0; have [b near_b] := rational_dense y e0.
  by exists (pickle (a, b)); rewrite /q pickleK.
rewrite (_ : _ @^-1` _ = (h @^-1` ball (q i).1 e) `&` (k @^-1` ball (q i).2 e)); last by [].
by apply: measurableI; exact: measurable_ball.
Qed.

Lemma row_borel n (h : X -> 'rV[R]_n.+1) : (forall i, measurable_fun setT (fun x => h x 0 i)) -> borel h.
Proof.
move=> mh; apply: (continuous_borel (G := fst) (h := fun x => (h x, h x))); last exact: row_pair_borel.
by move=> zy; exact: cvg_fst.
Qed.
End Countable.

(** ** Bounded inputs that are rows of numbers: the entries are measurable, and bounded *)
Section Rows.
Context {R : realType} d (X : measurableType d) (mu : {measure set X -> \bar R}) {k : nat}.
Variables (input : X -> 'rV[R]_k.+1) (B : R).
Hypothesis finite : (mu setT < +oo)%E.
Hypothesis entries_measurable : forall i, measurable_fun setT (fun x => input x 0 i).
Hypothesis entries_bounded : forall x, `|input x| <= B.

Lemma bounded_rows p n (F : 'rV[R]_k.+1 -> 'rV[R]_p.+1 -> 'rV[R]_n.+1) theta0 :
  (forall theta, continuous (F^~ theta)) -> (\forall theta \near theta0, forall u, differentiable (F u) theta) ->
  (forall u, {for (u, theta0), continuous (fun ut => jacobian (F ut.1) ut.2)}) ->
  bounded_inputs mu [set u | `|u| <= B] input F theta0.
Proof.
move=> Fc Fd Jc; split=> //; first exact: bounded_rows_compact; first exact: row_borel.
by apply: filterS Fd => theta Fd u _; exact: Fd.
Qed.

(** Neither hypothesis is empty: the linear model with one output, [theta . u]. *)
Lemma linear_model_bounded theta0 :
  bounded_inputs mu [set u | `|u| <= B] input (fun u theta => theta *m u^T : 'rV[R]_1) theta0.
Proof.
have J (u theta : 'rV[R]_k.+1) : jacobian (fun theta => theta *m u^T : 'rV[R]_1) theta = u^T.
  exact/jacobian_is_diff/is_diff_mulmxr.
apply: bounded_rows => [theta u||u].
- have [Fd _] : is_diff u (fun v => theta *m v^T : 'rV[R]_1) (fun v => theta *m v^T).
    have entry (v : 'rV[R]_k.+1) i : dot v theta = (theta *m v^T : 'rV[R]_1) 0 i.
      by rewrite dotC mxE; apply: eq_bigr => j _; rewrite mxE [i]ord1.
    by apply: is_diff_row => i; apply: (is_diff_ext (is_diff_dotl theta u)) => v; exact: entry.
  exact: differentiable_continuous Fd.
- by apply: (@filterE _ _ (nbhs_filter theta0)) => theta u; have [] := is_diff_mulmxr u^T theta.
have transpose : trmx @ u --> u^T.
  move=> P /nbhs_ballP[e /= e0 inP]; apply/nbhs_ballP; exists e => // v uv; apply: inP => i j.
  by rewrite !mxE; exact: uv.
have proj : (fun ut : 'rV[R]_k.+1 * 'rV[R]_k.+1 => ut.1) @ (u, theta0) --> u by exact: cvg_fst.
have := cvg_comp proj transpose.
rewrite /prop_for /= J (_ : (fun ut => _) = (fun ut : 'rV[R]_k.+1 * 'rV[R]_k.+1 => ut.1^T))//.
by apply/funext => ut.
Qed.
End Rows.

(** ** Bounded changes

    No topology on the inputs: the measure is finite, one Lipschitz constant serves all inputs near the start, the
    teacher's step moves all outputs by a bounded amount, and the outputs and the loss can be measured. The outputs
    themselves need not be bounded. *)
Record bounded_changes (R : realType) d (X : measurableType d) (mu : {measure set X -> \bar R}) p n
    (f : X -> 'rV[R]_p.+1 -> 'rV[R]_n.+1) (theta0 dT : 'rV[R]_p.+1) : Prop := BoundedChanges {
  changes_finite : (mu setT < +oo)%E;
  outputs_measurable : forall theta i, measurable_fun setT (fun x => f x theta 0 i);
  uniform_lipschitz : exists K, \forall theta \near theta0, forall x,
    `|f x theta - f x theta0| <= K * `|theta - theta0|;
  bounded_step : forall eps, exists B, forall x, `|label f theta0 dT eps x - f x theta0| <= B }.

Section BoundedChanges.
Context {R : realType} d (X : measurableType d) (mu : {measure set X -> \bar R}) {p n : nat}.
Variables (f : X -> 'rV[R]_p.+1 -> 'rV[R]_n.+1) (LS : 'rV[R]_n.+1 -> 'rV[R]_n.+1 -> R).
Variables (theta0 dT : 'rV[R]_p.+1).
Hypothesis changes : bounded_changes mu f theta0 dT.
Hypothesis LS_diff : forall z y, differentiable (LS^~ y) z.
Hypothesis loss : regular_loss LS.
Hypothesis diagonal : exists B, forall y, `|LS y y| <= B.

Local Notation label := (label f theta0 dT).
Let finite := changes_finite changes.
Let f_measurable := outputs_measurable changes.

Let mloss theta theta' : measurable_fun setT (fun x => LS (f x theta) (f x theta')).
Proof.
have outputs := row_pair_borel (f_measurable theta) (f_measurable theta').
exact: borel_measurable (continuous_borel (loss_continuous loss) outputs).
Qed.

Theorem bounded_changes_dominated : dominated mu f LS theta0 dT.
Proof.
split=> [|eps|eps theta|eps|]; last exact: loss_growth.
- have [K lip] := uniform_lipschitz changes; exists (fun=> K); split; first exact: integrable_cst.
  exact: lip.
- have [B bound] := bounded_step changes eps; apply: (bounded_integrable finite (B := B ^+ 2)) => [|x].
    have dist_continuous : continuous (fun zy : 'rV[R]_n.+1 * 'rV[R]_n.+1 => `|zy.1 - zy.2| ^+ 2).
      move=> zy; under eq_fun do rewrite expr2; rewrite expr2.
      by apply: cvgM; apply: cvg_norm; apply: cvgB; [exact: cvg_fst|exact: cvg_snd|exact: cvg_fst|exact: cvg_snd].
    have pair := row_pair_borel (f_measurable (theta0 + eps *: dT)) (f_measurable theta0).
    exact: borel_measurable (continuous_borel dist_continuous pair).
  by rewrite ger0_norm ?sqr_ge0// ler_expn2r ?nnegrE// (le_trans _ (bound x)).
- exact: mloss.
- have [B bound] := bounded_step changes eps; have [C grow] := loss_growth loss; have [D diag] := diagonal.
  have grow' z y : `|loss_gradient LS z y| <= `|C| * `|z - y|.
    by rewrite (le_trans (grow z y))// ler_wpmul2r// ler_norm.
  apply: (bounded_integrable finite (B := D + n.+1%:R * (`|C| * B) * B) (mloss _ _)) => x.
  set y := label eps x; rewrite -[LS _ _](subrK (LS y y)) addrC (le_trans (ler_norm_add _ _))//.
  apply: ler_add; first exact: diag.
  have B0 : 0 <= B := le_trans (normr_ge0 _) (bound x).
  rewrite (le_trans (loss_difference (normr_ge0 C) LS_diff grow' y _ _))// subrr normr0 add0r distrC.
  by apply: ler_pmul; rewrite ?mulr_ge0// ?ler_wpmul2l// ?mulr_ge0// bound.
Qed.
End BoundedChanges.

(** ** Multiples, sums and linear maps of regular losses are regular *)
Section RegularLosses.
Context {R : realType}.

Lemma regular_multiple n (LS : 'rV[R]_n.+1 -> 'rV[R]_n.+1 -> R) (c : R) : imitation_loss LS ->
  regular_loss LS -> regular_loss (fun z y => c * LS z y).
Proof.
move=> HLS [LSc [C growth]]; split.
  by move=> zy; apply: cvgMr; exact: LSc.
exists (`|c| * C) => z y; rewrite loss_gradient_multiple// normrZ -mulrA.
by rewrite ler_wpmul2l.
Qed.

Lemma regular_sum n (LS1 LS2 : 'rV[R]_n.+1 -> 'rV[R]_n.+1 -> R) : imitation_loss LS1 -> imitation_loss LS2 ->
  regular_loss LS1 -> regular_loss LS2 -> regular_loss (fun z y => LS1 z y + LS2 z y).
Proof.
move=> H1 H2 [LSc1 [C1 growth1]] [LSc2 [C2 growth2]]; split.
  by move=> zy; apply: cvgD; [exact: LSc1|exact: LSc2].
exists (C1 + C2) => z y; rewrite loss_gradient_sum// (le_trans (ler_norm_add _ _))// mulrDl.
exact: ler_add.
Qed.

Lemma regular_linear_map n m (LS : 'rV[R]_m.+1 -> 'rV[R]_m.+1 -> R) (B : 'M[R]_(n.+1, m.+1)) : imitation_loss LS ->
  regular_loss LS -> regular_loss (fun z y => LS (z *m B) (y *m B)).
Proof.
move=> HLS [LSc [C growth]]; split.
  have Bc (z : 'rV[R]_n.+1) : mulmx^~ B @ z --> z *m B.
    exact: differentiable_continuous (@ex_diff _ _ _ _ _ _ _ (is_diff_mulmxr B z)).
  move=> zy.
  have p1 : (fun ab : 'rV[R]_n.+1 * 'rV[R]_n.+1 => ab.1) @ zy --> zy.1 by exact: cvg_fst.
  have p2 : (fun ab : 'rV[R]_n.+1 * 'rV[R]_n.+1 => ab.2) @ zy --> zy.2 by exact: cvg_snd.
  have pair : (fun ab : 'rV[R]_n.+1 * 'rV[R]_n.+1 => (ab.1 *m B, ab.2 *m B)) @ zy -->
      (zy.1 *m B, zy.2 *m B) by exact: cvg_pair (cvg_comp p1 (Bc zy.1)) (cvg_comp p2 (Bc zy.2)).
  exact: (cvg_comp pair (@LSc (zy.1 *m B, zy.2 *m B))).
exact: linear_map_linear_growth (ex_intro _ C growth).
Qed.

(** Such as a loss on chosen outputs alone, and distillation at a temperature. *)
Theorem chosen_outputs_regular n m (chosen : 'I_m.+1 -> 'I_n.+1) (LS : 'rV[R]_m.+1 -> 'rV[R]_m.+1 -> R) :
  imitation_loss LS -> regular_loss LS -> regular_loss (on_outputs chosen LS).
Proof. by move=> HLS reg; rewrite on_outputsE; exact: regular_linear_map. Qed.

Theorem distillation_regular n (LS : 'rV[R]_n.+1 -> 'rV[R]_n.+1 -> R) (T : R) :
  imitation_loss LS -> regular_loss LS -> regular_loss (distillation LS T).
Proof.
move=> HLS reg; apply: regular_multiple; first exact: temperature_serves.
by rewrite at_temperatureE; exact: regular_linear_map.
Qed.
End RegularLosses.

(** ** The paper's losses are regular, and bounded where outputs and labels agree *)
Section PaperLosses.
Context {R : realType} {n : nat}.
Implicit Types (c z y : 'rV[R]_n.+1).
Local Notation pair := ('rV[R]_n.+1 * 'rV[R]_n.+1)%type.

Lemma continuous_ext (G H : 'rV[R]_n.+1 -> R) : G =1 H -> continuous G -> continuous H.
Proof. by move=> /funext ->. Qed.

Lemma continuous_fst (G : 'rV[R]_n.+1 -> R) : continuous G -> continuous (fun zy : pair => G zy.1).
Proof.
move=> Gc zy; have proj : (fun ab : pair => ab.1) @ zy --> zy.1 by exact: cvg_fst.
exact: (cvg_comp proj (@Gc zy.1)).
Qed.

Lemma continuous_snd (G : 'rV[R]_n.+1 -> R) : continuous G -> continuous (fun zy : pair => G zy.2).
Proof.
move=> Gc zy; have proj : (fun ab : pair => ab.2) @ zy --> zy.2 by exact: cvg_snd.
exact: (cvg_comp proj (@Gc zy.2)).
Qed.

(** Sums of a function of the residuals: squared error and Huber's loss. *)
Lemma residual_loss_continuous c (psi : R -> R) :
  continuous psi -> continuous (fun zy => residual_loss c psi zy.1 zy.2).
Proof.
have entry i := @coord_continuous R 1 n.+1 0 i.
move=> psic zy; apply: cvg_sum => i; apply: cvgMr.
have gap : (fun ab : pair => ab.1 0 i - ab.2 0 i) @ zy --> zy.1 0 i - zy.2 0 i.
  by apply: cvgB; [exact: (continuous_fst (entry i))|exact: (continuous_snd (entry i))].
exact: (cvg_comp gap (psic _)).
Qed.

Lemma derivable_continuous (psi dpsi : R -> R) :
  (forall r, is_derive r (1 : R) psi (dpsi r)) -> continuous psi.
Proof. by move=> d r; apply/differentiable_continuous/derivable1_diffP; have [] := d r. Qed.

Theorem squared_error_regular c : regular_loss (squared_error c).
Proof.
split; last exact: squared_error_linear_growth.
exact: (residual_loss_continuous (derivable_continuous (@is_derive_square R))).
Qed.

Theorem huber_regular c (delta : R) : 0 < delta -> regular_loss (residual_loss c (huber delta)).
Proof.
move=> delta0; split; last exact: huber_linear_growth.
exact: (residual_loss_continuous (derivable_continuous (is_derive_huber delta0))).
Qed.

Lemma squared_error_diagonal c y : squared_error c y y = 0.
Proof. by rewrite /squared_error big1// => i _; rewrite subrr expr0n mulr0. Qed.

(** The softmax losses. *)
Lemma softmax_continuous i : continuous (fun z => softmax z 0 i).
Proof.
move=> z; have c := differentiable_continuous (@ex_diff _ _ _ _ _ _ _ (is_diff_softmax z)).
exact: (cvg_comp c (@coord_continuous _ _ _ 0 i (softmax z))).
Qed.

Lemma ln_softmax_continuous i : continuous (fun z => ln (softmax z 0 i)).
Proof.
apply: (continuous_ext (G := fun z => z 0 i - ln (partition z))) => z; first by rewrite ln_softmax.
have c := differentiable_continuous (@ex_diff _ _ _ _ _ _ _ (is_diff_lse z)).
exact: (cvgB (@coord_continuous _ _ _ 0 i z) c).
Qed.

Theorem cross_entropy_regular : regular_loss (@cross_entropy R n).
Proof.
split; last exact: cross_entropy_linear_growth.
move=> zy; apply: cvgN; apply: cvg_sum => i; apply: cvgM.
  exact: (continuous_snd (@softmax_continuous i)).
exact: (continuous_fst (@ln_softmax_continuous i)).
Qed.

Theorem kl_regular : regular_loss (@kl R n).
Proof.
split; last exact: kl_linear_growth.
move=> zy; apply: cvg_sum => i; apply: cvgM; first exact: (continuous_snd (@softmax_continuous i)).
apply: cvgB; first exact: (continuous_snd (@ln_softmax_continuous i)).
exact: (continuous_fst (@ln_softmax_continuous i)).
Qed.

Lemma kl_diagonal y : kl y y = 0.
Proof. by rewrite /kl big1// => i _; rewrite subrr mulr0. Qed.

(** The entropy is bounded: [- q ln q <= 1] for a probability q. *)
Lemma cross_entropy_diagonal y : `|cross_entropy y y| <= n.+1%:R.
Proof.
rewrite normrN (le_trans (ler_norm_sum _ _ _))// -[n.+1 in X in _ <= X]card_ord -sumr_const.
apply: ler_sum => i _; have q0 := softmax_gt0 y i; have q1 := softmax_le1 y i; set q := softmax y 0 i in q0 q1 *.
have lnq : ln q <= 0 by rewrite -ler_expR lnK ?posrE// expR0.
rewrite normrM gtr0_norm// ler0_norm// -lnV ?posrE// -ler_pdivl_mull// mulr1.
by apply/ltW/ln_sublinear; rewrite invr_gt0.
Qed.
End PaperLosses.

(** ** An example in full: noise images of bounded pixels, auxiliary logits, KL divergence

    [chosen] names the auxiliary logits; the network is continuously differentiable, the inputs are rows of bounded
    numbers of any finite distribution, and the teacher's loss LT is any differentiable function of the parameters. *)
Corollary theorem_1_auxiliary_logits (R : realType) d (X : measurableType d) (mu : {measure set X -> \bar R}) k p n m
    (input : X -> 'rV[R]_k.+1) (B : R) (F : 'rV[R]_k.+1 -> 'rV[R]_p.+1 -> 'rV[R]_n.+1)
    (chosen : 'I_m.+1 -> 'I_n.+1) (LT : 'rV[R]_p.+1 -> R) alpha theta0 :
  (mu setT < +oo)%E -> (forall i, measurable_fun setT (fun x => input x 0 i)) -> (forall x, `|input x| <= B) ->
  (forall theta, continuous (F^~ theta)) -> (\forall theta \near theta0, forall u, differentiable (F u) theta) ->
  (forall u, {for (u, theta0), continuous (fun ut => jacobian (F ut.1) ut.2)}) ->
  differentiable LT theta0 -> 0 < alpha ->
  orthogonal_or_transfer (expect mu) (fun x => F (input x)) (on_outputs chosen kl) LT alpha theta0.
Proof.
move=> finite measurable bound Fc Fd Jc LTd alpha0.
have serves : imitation_loss (@kl R m) by exact: kl_serves.
have regular := chosen_outputs_regular chosen serves kl_regular.
have inputs := bounded_rows finite measurable bound Fc Fd Jc.
by apply: (theorem_1_bounded_inputs inputs regular) => //; exact: on_outputs_serves.
Qed.
