(** The expectation under a measure: the rules that the proof for any distribution of inputs uses (any_measure.v).

    [integrable mu h] and [expect mu h] are those of statement.v, for a real function h: the integral is finite, and
    is taken as a real number. Sums and multiples, order, functions of expectation zero, dominated convergence, and
    differentiation under the integral: the gradient of an expected loss is the expected gradient. Last, that a
    weighted sum over finitely many inputs is such an expectation. *)

From mathcomp Require Import all_ssreflect all_algebra ring.
From mathcomp.classical Require Import boolp classical_sets functions mathcomp_extra.
From mathcomp.analysis Require Import reals constructive_ereal ereal signed topology normedtype landau derive.
From mathcomp.analysis Require Import sequences measure lebesgue_measure numfun lebesgue_integral.
From Subliminal Require Import statement calculus.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory numFieldNormedType.Exports.
Local Open Scope ring_scope.
Local Open Scope classical_set_scope.

Section Expectation.
Context {R : realType} d (X : measurableType d) (mu : {measure set X -> \bar R}).
Implicit Types h k : X -> R.

(** ** What has an expectation *)
Lemma integrable_fin_num h : integrable mu h -> (\int[mu]_x (h x)%:E)%E \is a fin_num.
Proof. exact: integral_fune_fin_num. Qed.

Lemma integrable_measurable h : integrable mu h -> measurable_fun setT h.
Proof.
move=> [mh _]; rewrite (_ : h = fine \o (EFin \o h)); last by apply/funext.
by apply: measurable_fun_comp => //; exact: measurable_fun_fine.
Qed.

Lemma integrable_zero : integrable mu (fun=> 0).
Proof. exact: integrable0. Qed.

Lemma integrable_add h k : integrable mu h -> integrable mu k -> integrable mu (fun x => h x + k x).
Proof.
move=> ih ik; have := integrableD measurableT ih ik.
by apply: eq_integrable => // x _; rewrite /= EFinD.
Qed.

Lemma integrable_scale c h : integrable mu h -> integrable mu (fun x => c * h x).
Proof.
move=> ih; have := integrablerM measurableT c ih.
by apply: eq_integrable => // x _; rewrite /= EFinM.
Qed.

Lemma integrable_sub h k : integrable mu h -> integrable mu k -> integrable mu (fun x => h x - k x).
Proof.
move=> ih ik; under eq_fun do rewrite -[- k _]mulN1r.
by apply: integrable_add => //; exact: integrable_scale.
Qed.

Lemma integrable_sum (I : Type) (r : seq I) (h : I -> X -> R) :
  (forall i, integrable mu (h i)) -> integrable mu (fun x => \sum_(i <- r) h i x).
Proof.
move=> ih; elim: r => [|i r IH].
  by under eq_fun do rewrite big_nil; exact: integrable_zero.
by under eq_fun do rewrite big_cons; exact: integrable_add.
Qed.

(** A measurable function has an expectation where a larger function has one. *)
Lemma integrable_bounded h k : measurable_fun setT h -> (forall x, `|h x| <= k x) ->
  integrable mu k -> integrable mu h.
Proof.
move=> mh hk; apply: le_integrable => // [|x _].
  by apply: measurable_fun_comp => //; exact: measurable_fun_EFin.
by rewrite /= lee_fin (le_trans (hk x))// ler_norm.
Qed.

(** ** The expectation is linear *)
Lemma expect_zero : expect mu (fun=> 0) = 0.
Proof. by rewrite /expect integral0. Qed.

Lemma expect_add h k : integrable mu h -> integrable mu k ->
  expect mu (fun x => h x + k x) = expect mu h + expect mu k.
Proof.
move=> ih ik; rewrite /expect -fineD ?integrable_fin_num//.
by rewrite -integralD_EFin//; congr fine; apply: eq_integral => x _; rewrite /= EFinD.
Qed.

Lemma expect_scale c h : integrable mu h -> expect mu (fun x => c * h x) = c * expect mu h.
Proof.
move=> ih; rewrite /expect (_ : c * fine _ = fine (c%:E * \int[mu]_x (h x)%:E)%E).
  by rewrite -integralM//; congr fine; apply: eq_integral => x _; rewrite /= EFinM.
by rewrite fineM// integrable_fin_num.
Qed.

Lemma expect_sub h k : integrable mu h -> integrable mu k ->
  expect mu (fun x => h x - k x) = expect mu h - expect mu k.
Proof.
move=> ih ik; under eq_fun do rewrite -[- k _]mulN1r.
by rewrite expect_add ?expect_scale ?mulN1r//; exact: integrable_scale.
Qed.

Lemma expect_sum (I : Type) (r : seq I) (h : I -> X -> R) : (forall i, integrable mu (h i)) ->
  expect mu (fun x => \sum_(i <- r) h i x) = \sum_(i <- r) expect mu (h i).
Proof.
move=> ih; elim: r => [|i r IH].
  by under eq_fun do rewrite big_nil; rewrite big_nil expect_zero.
under eq_fun do rewrite big_cons.
by rewrite big_cons expect_add ?IH//; exact: integrable_sum.
Qed.

(** ** Order *)
Lemma expect_ge0 h : (forall x, 0 <= h x) -> 0 <= expect mu h.
Proof. by move=> h0; rewrite /expect fine_ge0// integral_ge0// => x _; rewrite lee_fin. Qed.

Lemma norm_expect_le h k : integrable mu h -> integrable mu k -> (forall x, `|h x| <= k x) ->
  `|expect mu h| <= expect mu k.
Proof.
move=> ih ik hk; rewrite /expect -lee_fin -[X in (X <= _)%E]/(`|(fine _)%:E|%E) !fineK ?integrable_fin_num//.
apply: (le_trans (le_abse_integral _ _ _)) => //; first by case: ih.
apply: ge0_le_integral => //.
- by case: ih => mh _; exact: measurable_fun_comp.
- by move=> x _; rewrite lee_fin (le_trans _ (hk x)).
- by case: ik.
- by move=> x _; rewrite lee_fin.
Qed.

(** If a non-negative function has expectation 0, so has every function that vanishes where it does: the first is 0
    almost everywhere, hence the second is. *)
Lemma expect_vanishes h k : integrable mu h -> integrable mu k -> (forall x, 0 <= h x) ->
  expect mu h = 0 -> (forall x, h x = 0 -> k x = 0) -> expect mu k = 0.
Proof.
move=> ih ik h0 Eh hk; have [mh _] := ih; have [mk _] := ik.
have : (\int[mu]_x `|(EFin \o h) x|)%E = 0%E.
  under eq_integral do rewrite gee0_abs ?lee_fin//.
  by rewrite -[LHS]fineK ?integrable_fin_num// -/(expect mu h) Eh.
move=> /(ae_eq_integral_abs _ measurableT mh) [N [mN N0 sub]].
rewrite /expect (@ae_eq_integral _ _ _ mu setT (cst 0%E) (EFin \o k))//.
- by rewrite integral0.
- exact: measurable_fun_cst.
- exists N; split => // x /= nk; apply: sub => /= nh; apply: nk => _.
  by have [/hk->] := nh I.
Qed.

(** ** Dominated convergence, along a sequence *)
Theorem expect_cvg (h_ : nat -> X -> R) h k : (forall m, integrable mu (h_ m)) -> integrable mu k ->
  (forall m x, `|h_ m x| <= k x) -> (forall x, (fun m => h_ m x) --> h x) ->
  integrable mu h /\ (fun m => expect mu (h_ m)) --> expect mu h.
Proof.
move=> ih_ ik hk cvgh.
have mh_ m : measurable_fun setT (EFin \o h_ m) by case: (ih_ m).
have cvgE x : setT x -> (fun m => (EFin \o h_ m) x) --> (EFin \o h) x.
  by move=> _; apply: cvg_EFin; [exact: nearW|exact: cvgh].
have mh : measurable_fun setT (EFin \o h).
  exact: (@emeasurable_fun_cvg _ _ _ _ (fun m => EFin \o h_ m)).
have ae1 : {ae mu, forall x, setT x -> (fun m => (EFin \o h_ m) x) --> (EFin \o h) x}.
  exact: aeW.
have ae2 : {ae mu, forall x m, setT x -> (`|(EFin \o h_ m) x| <= (EFin \o k) x)%E}.
  by apply: aeW => x m _; rewrite lee_fin.
have [ih _ cvgI] := dominated_convergence measurableT mh_ mh ae1 ik ae2.
split => //; rewrite -(fineK (integrable_fin_num ih)) in cvgI.
exact: (fine_cvg cvgI).
Qed.
End Expectation.

(** ** What differentiation needs: small steps, first-order expansions *)
Section Steps.
Context {R : realType}.
Implicit Types (r : R) (m : nat).

(** A sequence of positive steps below r that tends to 0. *)
Definition vanishing_step r m : R := Order.min r m.+1%:R^-1 / 2%:R.

Lemma vanishing_stepP r m : 0 < r ->
  [/\ 0 < vanishing_step r m, vanishing_step r m < r & vanishing_step r m < m.+1%:R^-1].
Proof.
move=> r0; have m0 : 0 < m.+1%:R^-1 :> R by rewrite invr_gt0.
have s0 : 0 < vanishing_step r m by rewrite divr_gt0// lt_minr r0.
by split=> //; rewrite ltr_pdivr_mulr// lt_minl ltr_pmulr ?ltr1n// ?orbT// ltr_pmulr ?ltr1n ?orbT.
Qed.

Lemma near_vanishing (e : R) : 0 < e -> \forall m \near \oo, m.+1%:R^-1 < e.
Proof. by move=> e0; exact: (near_infty_natSinv_lt (PosNum e0)). Qed.
End Steps.

Section FirstOrder.
Context {R : realType} {p : nat}.
Implicit Types (F : 'rV[R]_p.+1 -> R) (a g h : 'rV[R]_p.+1).

(** A first-order expansion with gradient g makes F differentiable with gradient g. *)
Lemma taylor_is_diff F a g :
  (forall c, 0 < c -> exists2 e, 0 < e & forall h, `|h| < e -> `|F (a + h) - F a - dot g h| <= c * `|h|) ->
  is_diff a F (dot g).
Proof.
move=> taylor; have @dg : {linear 'rV[R]_p.+1 -> R}.
  by exists (dot g); eexists; move=> u v; rewrite ?dotBr ?dotZr.
have dgE : dot g = (fun v => dot v g) by apply/funext => v; rewrite dotC.
have dgc : continuous dg.
  rewrite /= dgE => h; have [dh _] := is_diff_dotl g h; exact: differentiable_continuous dh.
have FE : F \o shift a = cst (F a) + dg +o_ (0 : 'rV[R]_p.+1) id.
  apply/eqaddoP => c c0; have [e e0 He] := taylor _ c0.
  apply/nbhs_ballP; exists e => //= h; rewrite -ball_normE /ball_/= sub0r normrN => he.
  rewrite [X in `|X| <= _](_ : _ = F (a + h) - F a - dot g h); first exact: He.
  by rewrite -addrA -opprD [a + h]addrC.
have dF : 'd F a = dg :> (_ -> _) by exact: diff_unique.
by apply: DiffDef => //; apply/diff_locallyP; rewrite dF.
Qed.

Lemma norm_step (t : R) i : 0 < t -> `|t *: delta_mx 0 i : 'rV[R]_p.+1| = t.
Proof.
move=> t0; rewrite normrZ gtr0_norm// (_ : `|_| = 1) ?mulr1//.
apply/eqP; rewrite eq_le; apply/andP; split.
  by apply: norm_le => // j; rewrite mxE; case: (_ && _); rewrite ?normr1 ?normr0.
by rewrite (le_trans _ (norm_coord _ i))// mxE !eqxx normr1.
Qed.

(** A Lipschitz constant at a bounds each entry of the gradient there. *)
Lemma norm_grad_le F a (l r : R) i : differentiable F a -> 0 < r ->
  (forall h, `|h| < r -> `|F (a + h) - F a| <= l * `|h|) -> `|grad F a 0 i| <= l.
Proof.
move=> dF r0 lip; apply/ler_addgt0Pr => c c0.
have [e e0 He] := taylor_row_abs dF c0.
have : 0 < Order.min r e by rewrite lt_minr r0.
move=> /(vanishing_stepP 0); set t := vanishing_step _ _; rewrite lt_minr => -[t0 /andP[tr te] _].
pose h : 'rV[R]_p.+1 := t *: delta_mx 0 i.
have hE : dot (grad F a) h = t * grad F a 0 i by rewrite dotZr dot_delta.
rewrite -(ler_pmul2l t0) -[X in X * _ <= _](gtr0_norm t0) -normrM -hE.
have -> : dot (grad F a) h = F (a + h) - F a - (F (a + h) - F a - dot (grad F a) h) by ring.
rewrite (le_trans (ler_norm_sub _ _))// mulrDr ![t * _]mulrC -(norm_step i t0).
by apply: ler_add; [apply: lip|apply: He]; rewrite norm_step.
Qed.
End FirstOrder.

(** ** Differentiation under the integral

    L x is differentiable at a and changes there by at most [k x] times the step, for steps shorter than r; k has an
    expectation. Then the expectation of L is differentiable at a, and its gradient is the expected gradient. *)
Section UnderTheIntegral.
Context {R : realType} d (X : measurableType d) (mu : {measure set X -> \bar R}) {p : nat}.
Variables (L : X -> 'rV[R]_p.+1 -> R) (a : 'rV[R]_p.+1) (k : X -> R) (r : R).
Hypothesis L_diff : forall x, differentiable (L x) a.
Hypothesis L_measurable : forall theta, measurable_fun setT (L^~ theta).
Hypothesis L_integrable : integrable mu (L^~ a).
Hypothesis k_integrable : integrable mu k.
Hypothesis r_gt0 : 0 < r.
Hypothesis lipschitz : forall x h, `|h| < r -> `|L x (a + h) - L x a| <= k x * `|h|.

Let integrable_near h : `|h| < r -> integrable mu (fun x => L x (a + h) - L x a).
Proof.
move=> hr; apply: (@integrable_bounded _ _ _ _ _ (fun x => `|h| * k x)).
- by apply: measurable_funB; exact: L_measurable.
- by move=> x; rewrite mulrC lipschitz.
- exact: integrable_scale.
Qed.

Let integrable_at h : `|h| < r -> integrable mu (L^~ (a + h)).
Proof.
move=> hr; have := integrable_add (integrable_near hr) L_integrable.
by under eq_fun do rewrite subrK.
Qed.

(** Each entry of the gradient has an expectation: it is the limit of quotients of differences. *)
Lemma integrable_grad i : integrable mu (fun x => grad (L x) a 0 i).
Proof.
pose t := vanishing_step r; have t0 m : 0 < t m by have [] := vanishing_stepP m r_gt0.
pose h m : 'rV[R]_p.+1 := t m *: delta_mx 0 i.
have hr m : `|h m| < r by rewrite norm_step//; have [] := vanishing_stepP m r_gt0.
have [] // := @expect_cvg _ _ _ mu (fun m x => (t m)^-1 * (L x (a + h m) - L x a)) (fun x => grad (L x) a 0 i) k.
- by move=> m; exact/integrable_scale/integrable_near.
- move=> m x; rewrite normrM gtr0_norm ?invr_gt0// mulrC ler_pdivr_mulr//.
  by rewrite (le_trans (lipschitz _ (hr m)))// norm_step.
move=> x; apply/cvgrPdist_le => c c0; have [e e0 He] := taylor_row_abs (L_diff x) c0.
near=> m; have hme : `|h m| < e.
  rewrite norm_step//; apply: (@lt_trans _ _ m.+1%:R^-1); first by have [] := vanishing_stepP m r_gt0.
  by near: m; exact: near_vanishing.
have -> : grad (L x) a 0 i - (t m)^-1 * (L x (a + h m) - L x a) =
    - ((t m)^-1 * (L x (a + h m) - L x a - t m * grad (L x) a 0 i)) by field; rewrite gt_eqF.
rewrite normrN normrM gtr0_norm ?invr_gt0// mulrC ler_pdivr_mulr//.
by have := He _ hme; rewrite norm_step// dotZr dot_delta.
Unshelve. all: by end_near. Qed.

(** Were it otherwise, there would be steps h_m that tend to 0 and along which the remainder stays above c times the
    step. But its quotient by the step tends to 0 for every x and is dominated by a multiple of k. *)
Theorem is_diff_expect :
  is_diff a (fun theta => expect mu (L^~ theta)) (dot (\row_i expect mu (fun x => grad (L x) a 0 i))).
Proof.
set g := \row_i _; apply: taylor_is_diff => c c0; apply: contrapT => nobound.
have /choice[h Hh] : forall m : nat, exists h : 'rV[R]_p.+1, [/\ `|h| < r, `|h| < m.+1%:R^-1 &
    c * `|h| < `|expect mu (L^~ (a + h)) - expect mu (L^~ a) - dot g h|].
  move=> m; apply: contrapT => noh; apply: nobound; exists (Order.min r m.+1%:R^-1).
    by rewrite lt_minr r_gt0 invr_gt0 ltr0n.
  move=> h; rewrite lt_minr => /andP[hr hm]; rewrite leNgt; apply/negP => big.
  by apply: noh; exists h.
have h0 m : 0 < `|h m|.
  rewrite normr_gt0; apply/eqP => hm; have [_ _] := Hh m.
  by rewrite hm addr0 subrr dot0r subr0 !normr0 mulr0 ltxx.
have hr m : `|h m| < r by have [] := Hh m.
pose q m x := `|h m|^-1 * (L x (a + h m) - L x a - dot (grad (L x) a) (h m)).
have dotE m x : dot (grad (L x) a) (h m) = \sum_i h m 0 i * grad (L x) a 0 i by rewrite dotC.
have idot m : integrable mu (fun x => dot (grad (L x) a) (h m)).
  under eq_fun do rewrite dotE.
  by apply: integrable_sum => i; exact/integrable_scale/integrable_grad.
have iq m : integrable mu (q m).
  by apply: integrable_scale; apply: integrable_sub => //; exact: integrable_near.
have qE m : expect mu (q m) = `|h m|^-1 * (expect mu (L^~ (a + h m)) - expect mu (L^~ a) - dot g (h m)).
  rewrite expect_scale; last by apply: integrable_sub => //; exact: integrable_near.
  rewrite expect_sub//; last exact: integrable_near.
  rewrite expect_sub//; last exact: integrable_at.
  congr (_ * (_ - _)); under eq_fun do rewrite dotE.
  rewrite expect_sum => [|i]; last exact/integrable_scale/integrable_grad.
  rewrite dotC; apply: eq_bigr => i _; rewrite mxE expect_scale//; exact: integrable_grad.
have [] := @expect_cvg _ _ _ mu q (fun=> 0) (fun x => (1 + p.+1%:R) * k x) iq.
- exact: integrable_scale.
- move=> m x; rewrite normrM normfV normr_id mulrC ler_pdivr_mulr// (le_trans (ler_norm_sub _ _))//.
  rewrite mulrDl mul1r mulrDl.
  apply: ler_add; first exact: lipschitz.
  rewrite (le_trans (norm_dot _ _))// ler_wpmul2r// ler_wpmul2l//.
  have k0 : 0 <= k x by rewrite -(pmulr_lge0 _ (h0 m)) (le_trans _ (lipschitz x (hr m))).
  by apply: norm_le => // i; exact: norm_grad_le (lipschitz x).
- move=> x; apply/cvgrPdist_le => c' c'0; have [e e0 He] := taylor_row_abs (L_diff x) c'0.
  near=> m; rewrite sub0r normrN normrM normfV normr_id mulrC ler_pdivr_mulr//; apply: He.
  apply: (@lt_trans _ _ m.+1%:R^-1); first by have [] := Hh m.
  by near: m; exact: near_vanishing.
move=> _ /cvgrPdist_lt /(_ c c0) /filter_ex[m]; rewrite expect_zero sub0r normrN qE normrM normfV normr_id.
rewrite mulrC ltr_pdivr_mulr// ltNge => /negP[].
by have [_ _ /ltW] := Hh m.
Unshelve. all: by end_near. Qed.
End UnderTheIntegral.

(** ** Finitely many weighted points are a case of a measure

    Under the measure with mass [w i] at the point [a i], for i below N, every measurable function has an expectation:
    the weighted sum. *)
Section Points.
Context {R : realType} d (X : measurableType d) (w : nat -> {nonneg R}) (a : nat -> X) (N : nat).

Definition points_measure : {measure set X -> \bar R} := [the measure _ _ of
  msum (fun i => [the measure _ _ of mscale (w i) [the measure _ _ of dirac (a i)]]) N].

Let points_ge0 (h : X -> R) : measurable_fun setT h -> (forall x, 0 <= h x) ->
  integrable points_measure h /\ expect points_measure h = weighted (fun i : 'I_N => (w i)%:num) (fun i => h (a i)).
Proof.
move=> mh h0; have mE : measurable_fun setT (EFin \o h).
  by apply: measurable_fun_comp mh; exact: measurable_fun_EFin.
have E0 x : setT x -> (0 <= (EFin \o h) x)%E by rewrite lee_fin.
have int : (\int[points_measure]_x (h x)%:E = (weighted (fun i : 'I_N => (w i)%:num) (fun i => h (a i)))%:E)%E.
  rewrite ge0_integral_measure_sum// -sumEFin; apply: eq_bigr => i _.
  by rewrite ge0_integral_mscale// integral_dirac// indicE in_setT mul1e.
split; last by rewrite /expect int.
split=> //; under eq_integral do rewrite gee0_abs ?lee_fin//.
by rewrite int ltry.
Qed.

Theorem expect_points (h : X -> R) : measurable_fun setT h ->
  integrable points_measure h /\ expect points_measure h = weighted (fun i : 'I_N => (w i)%:num) (fun i => h (a i)).
Proof.
move=> mh; have m0 : measurable_fun setT (fun _ : X => 0 : R) := @measurable_fun_cst _ _ _ _ _ _.
have [|x|ip pE] := @points_ge0 (fun x => Order.max (h x) 0); first exact: measurable_fun_max.
  by rewrite le_maxr lexx orbT.
have [|x|iq qE] := @points_ge0 (fun x => Order.max (- h x) 0).
- by apply: measurable_fun_max => //; exact: measurable_funN.
- by rewrite le_maxr lexx orbT.
have hE x : h x = Order.max (h x) 0 - Order.max (- h x) 0.
  have [h0|/ltW h0] := leP 0 (h x); first by rewrite max_r ?oppr_le0// subr0.
  by rewrite max_l ?oppr_ge0// add0r opprK.
rewrite (_ : h = fun x => Order.max (h x) 0 - Order.max (- h x) 0); last by apply/funext.
split; first exact: integrable_sub.
by rewrite expect_sub// pE qE -sumrB; apply: eq_bigr => i _; rewrite mulrBr.
Qed.
End Points.
